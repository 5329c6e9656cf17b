package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
)

// TestPauseOfTheProcessExpiresNobody plays SIGSTOP, which stops the clock of the
// driver's loop but not the monotonic one, and a machine that sleeps, which stops
// both.
func TestPauseOfTheProcessExpiresNobody(t *testing.T) {
	for name, pause := range map[string]func(*Server){
		"stopped": func(s *Server) { s.lastLoop -= int64(time.Hour) },
		"asleep":  func(s *Server) { s.lastWall -= int64(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
				c := pipe(t, s)
				c.open()
				time.Sleep(9 * time.Second)
				if err := s.inDriver(t.Context(), func() { pause(s) }); err != nil {
					t.Fatal(err)
				}
				time.Sleep(9 * time.Second) // it has 10s from the end of the pause
				if n := s.State().Sessions; n != 1 {
					t.Fatal("the session expired")
				}
				time.Sleep(5 * time.Second)
				if n := s.State().Sessions; n != 0 {
					t.Error("the session does not expire any more")
				}
			})
		})
	}
}

// TestDumpWhileThePauseIsNoticed is for the race detector.
func TestDumpWhileThePauseIsNoticed(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		for range 20 {
			go s.SessionsByExpiry()
			s.inDriver(t.Context(), func() {
				s.lastLoop -= int64(time.Hour)
				s.noticePause()
			})
		}
		synctest.Wait()
	})
}

func TestWatchesOfAConnectionAreBounded(t *testing.T) {
	inBubbleWith(t, Config{MaxWatches: 3, Storage: storage.Config{DataDir: t.TempDir()}}, func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		watch := func(path string) wire.Code {
			c.send(req(1, wire.OpExists, &wire.PathWatch{Path: path, Watch: true}))
			h, _ := c.reply()
			return h.Err
		}
		for i := range 3 {
			if code := watch(fmt.Sprint("/w", i)); code != wire.ErrNoNode {
				t.Errorf("watch %d: %v", i, code)
			}
		}
		if code := watch("/one-too-many"); code != wire.ErrThrottledOp {
			t.Errorf("one watch too many: %v, want %v", code, wire.ErrThrottledOp)
		}
		if code := watch("/w0"); code != wire.ErrNoNode {
			t.Errorf("a watch that is there already: %v", code)
		}
		// What cannot be armed fires, so that the client does not rely on it.
		c.send(req(-8, wire.OpSetWatches, &wire.SetWatches{RelativeZxid: 1 << 40, Data: []string{"/"}, Exist: []string{"/w1", "/w3"}, Child: []string{"/zookeeper"}}))
		var got []string
		for h, b := c.reply(); h.Xid == wire.XidNotification; h, b = c.reply() {
			var e wire.WatcherEvent
			if err := wire.Unmarshal(b, &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Type.String()+" "+e.Path)
		}
		if want := "NodeDataChanged / NodeCreated /w3 NodeChildrenChanged /zookeeper"; strings.Join(got, " ") != want {
			t.Errorf("events %q, want %q", got, want)
		}
		c.send(createReq(2, "/w2", ""))
		if h, _ := c.reply(); h.Xid != wire.XidNotification {
			t.Errorf("%+v, want the event", h)
		}
		c.wantOK(2)
		if code := watch("/in-the-free-place"); code != wire.ErrNoNode {
			t.Errorf("watch after one has fired: %v", code)
		}
	})
}

func TestWarningsThatClientsCauseAreRare(t *testing.T) {
	var log bytes.Buffer
	cfg := Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Storage: storage.Config{DataDir: t.TempDir()}}
	inBubbleWith(t, cfg, func(t *testing.T, s *Server) {
		for range 3 {
			for range 50 {
				c := pipe(t, s)
				c.Write([]byte{0xff, 0, 0, 0})
				c.wantClosed()
			}
			time.Sleep(time.Second)
		}
	})
	if n := strings.Count(log.String(), "closing connection"); n != 3 || !strings.Contains(log.String(), "skipped=49") {
		t.Errorf("%d lines for 150 connections in 3s:\n%s", n, &log)
	}
}
