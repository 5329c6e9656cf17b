package shell

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// runTerminal reads lines with editing, history (the arrow keys) and completion
// (the tab key) until quit, Ctrl-C or Ctrl-D.
func (s *Shell) runTerminal(ctx context.Context, in *os.File) error {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		s.errorf("terminal: %v\n", err)
		return ErrFailed
	}
	defer func() { _ = term.Restore(int(in.Fd()), old) }()
	screen := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, s.cfg.Stdout}, "")
	if w, h, err := term.GetSize(int(in.Fd())); err == nil && w > 0 {
		_ = screen.SetSize(w, h) // only decides where long lines break
	}
	screen.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		return s.complete(ctx, screen, line, pos)
	}
	// Raw mode wants CR LF everywhere, and a message must not tear the line that
	// is being edited: the terminal sees to both.
	s.mu.Lock()
	s.out, s.errs = screen, screen
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.out, s.errs = s.cfg.Stdout, s.cfg.Stderr
		s.mu.Unlock()
	}()
	s.begin(ctx)
	s.printf("Welcome to ZooKeeper!\n")
	for !s.quit && ctx.Err() == nil {
		screen.SetPrompt(s.prompt())
		line, rerr := screen.ReadLine()
		if rerr != nil && !errors.Is(rerr, term.ErrPasteIndicator) {
			if !errors.Is(rerr, io.EOF) {
				s.errorf("terminal: %v\n", rerr)
				err = ErrFailed
			}
			break
		}
		if strings.TrimSpace(line) != "" {
			err = s.Line(ctx, line)
		}
	}
	s.end() // while the terminal can still print what comes
	return err
}

// complete extends the word before the cursor: a verb, or a path by the
// children of its znode. Several candidates extend as far as they agree, and
// are listed if that is not at all.
func (s *Shell) complete(ctx context.Context, screen io.Writer, line string, pos int) (string, int, bool) {
	start := strings.LastIndexAny(line[:pos], " \t") + 1
	word := line[start:pos]
	candidates := s.candidates(ctx, word, start == 0)
	if len(candidates) == 0 {
		return "", 0, false
	}
	common := candidates[0]
	for _, c := range candidates[1:] {
		for !strings.HasPrefix(c, common) {
			common = common[:len(common)-1]
		}
	}
	switch {
	case len(candidates) == 1:
		if !strings.HasPrefix(word, "/") {
			common += " "
		}
	case common == word:
		_, _ = io.WriteString(screen, strings.Join(candidates, "  ")+"\n")
		return "", 0, false
	}
	return line[:start] + common + line[pos:], start + len(common), true
}

func (s *Shell) candidates(ctx context.Context, word string, first bool) []string {
	var all []string
	switch {
	case strings.HasPrefix(word, "/"):
		if s.link == nil || s.link.closed {
			return nil
		}
		i := strings.LastIndexByte(word, '/')
		dir := word[:max(i, 1)]
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a key must not hang
		defer cancel()
		names, _, err := s.link.client.Children(ctx, dir)
		if err != nil {
			return nil
		}
		for _, n := range names {
			all = append(all, join(dir, n))
		}
	case first:
		all = Verbs()
	}
	return slices.DeleteFunc(all, func(c string) bool { return !strings.HasPrefix(c, word) })
}
