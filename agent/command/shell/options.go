package shell

import (
	"context"
	"strings"

	"github.com/paddockio/paddock/zab/client"
)

// A verb is one command of the shell.
type verb struct {
	// usage is what stands behind the name in the list of commands.
	usage string
	// flags are options without a value, values those with one. Names of more
	// than one letter are written with one dash too.
	flags, values []string
	// min is how many words must be there besides the options, the verb included.
	min int
	// help is printed below the usage when the command is written wrong.
	help string
	// local verbs need no connection.
	local bool
	// hidden verbs are old and not listed.
	hidden bool
	run    func(ctx context.Context, c *call) error
}

// A call is a command that was parsed.
type call struct {
	shell   *Shell
	client  *client.Client
	args    []string // the verb and what is no option
	flags   map[string]bool
	options map[string]string
}

func (c *call) has(name string) bool {
	_, ok := c.options[name]
	return ok || c.flags[name]
}

func (v *verb) usageText(name string) string {
	text := strings.TrimRight(name+" "+v.usage, " ")
	if v.help != "" {
		text = name + " " + v.usage + "\n" + v.help
	}
	return text
}

// parse sorts options from words, wherever they stand; "--" ends the options.
// Letters may be joined, -sw, and a value may follow its letter, -v3.
func (v *verb) parse(args []string) (*call, error) {
	c := &call{args: args[:1:1], flags: map[string]bool{}, options: map[string]string{}}
	isFlag, isValue := set(v.flags), set(v.values)
	for i := 1; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			c.args = append(c.args, args[i+1:]...)
			i = len(args)
		case len(a) < 2 || a[0] != '-':
			c.args = append(c.args, a)
		case isFlag[a[1:]]:
			c.flags[a[1:]] = true
		case isValue[a[1:]]:
			if i+1 == len(args) {
				return nil, usageError("Missing argument for option: " + a[1:])
			}
			i++
			c.options[a[1:]] = args[i]
		default:
			if !c.joined(a[1:], isFlag, isValue) {
				return nil, usageError("Unrecognized option: " + a)
			}
		}
	}
	if len(c.args) < v.min {
		return nil, usageError(v.usageText(args[0]))
	}
	return c, nil
}

// joined takes apart several letters behind one dash.
func (c *call) joined(letters string, isFlag, isValue map[string]bool) bool {
	for i := range len(letters) {
		l := letters[i : i+1]
		switch {
		case isFlag[l]:
			c.flags[l] = true
		case isValue[l] && i+1 < len(letters):
			c.options[l] = strings.TrimPrefix(letters[i+1:], "=")
			return true
		default:
			return false
		}
	}
	return true
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, e := range list {
		m[e] = true
	}
	return m
}
