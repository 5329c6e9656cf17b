package command_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/paddockio/paddock/agent/command"
	"github.com/paddockio/paddock/agent/config"
)

// check runs a command line of a deploy file with -check, on the sample
// configuration.
func check(t *testing.T, from string, args []string) {
	t.Helper()
	for i, a := range args {
		args[i] = strings.Replace(a, "/etc/paddock/", "../../deploy/", 1)
	}
	var errs bytes.Buffer
	p := command.Program{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &errs}
	if code := p.Main(t.Context(), append(args, "-check")); code != 0 {
		t.Errorf("%s: paddock %s: exit status %d, %s", from, strings.Join(args, " "), code, errs.String())
	}
}

func TestTheUnitFileRunsCommandsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../deploy/paddock.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^Exec\w+=/usr/bin/paddock (.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(lines) != 2 {
		t.Fatalf("%d Exec lines, want ExecStart and ExecStartPre", len(lines))
	}
	for _, l := range lines {
		check(t, l[0], strings.Fields(l[1]))
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line != "" && line[0] != '#' && line[0] != '[' && !strings.Contains(line, "=") {
			t.Errorf("line %d is no setting: %s", i+1, line)
		}
	}
}

func TestTheContainerRunsACommandThatExists(t *testing.T) {
	text, err := os.ReadFile("../../deploy/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	cmd := regexp.MustCompile(`(?m)^CMD (.*)$`).FindSubmatch(text)
	if cmd == nil {
		t.Fatal("no CMD line")
	}
	var args []string
	if err := json.Unmarshal(cmd[1], &args); err != nil {
		t.Fatalf("%s: %v", cmd[0], err)
	}
	check(t, "CMD", args)
}

func TestTheSampleZooCfgIsRead(t *testing.T) {
	text, err := os.ReadFile("../../deploy/zoo.cfg")
	if err != nil {
		t.Fatal(err)
	}
	z, err := config.ParseZooCfg("zoo.cfg", text) // not LoadZooCfg: dataDir is a real place
	if err != nil || len(z.Warnings) > 0 || z.ClientPort != 2181 || z.Quorum() {
		t.Errorf("%+v, %v", z, err)
	}
	// The commented lines are meant to be used.
	all := regexp.MustCompile(`(?m)^#(\w+[\w.]*=)`).ReplaceAll(text, []byte("$1"))
	z, err = config.ParseZooCfg("zoo.cfg", all)
	if err != nil || len(z.Ensemble.Members) != 3 {
		t.Errorf("with the ensemble: %+v, %v", z.Ensemble, err)
	}
}
