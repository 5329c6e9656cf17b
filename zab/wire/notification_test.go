package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Recorded from release 3.9.5 (zookeeper.md, sections 7.1 and 7.3); the list of
// servers is shortened.
const (
	apacheInitial      = "ffffffffffff0000 0000000000000001 0000000e 3132372e302e302e313a33383831"
	apacheNotification = "00000000 0000000000000001 0000000000000000 0000000000000001 0000000000000000 00000002 00000009 76657273696f6e3d30"
)

func TestElectionBytesAreApaches(t *testing.T) {
	b := unhex(t, apacheInitial)
	m := &InitialMessage{}
	recode(t, "initial message", b, m)
	if want := (&InitialMessage{1, []string{"127.0.0.1:3881"}}); !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v, want %+v", m, want)
	}

	b = unhex(t, apacheNotification)
	n, err := DecodeNotification(b)
	want := zab.Notification{State: zab.Looking, Vote: zab.Vote{Leader: 1}, Round: 1, Version: 2, Ensemble: []byte("version=0")}
	if err != nil || !reflect.DeepEqual(n, want) {
		t.Errorf("got %+v, %v, want %+v", n, err, want)
	}
	if got := AppendNotification(nil, &n); !bytes.Equal(got, b) {
		t.Errorf("got %x, want %x", got, b)
	}
}

// readElection calls back for each line of the recording that TestCaptureEnsemble
// makes.
func readElection(t testing.TB, each func(kind string, b []byte)) {
	t.Helper()
	text, err := os.ReadFile("testdata/election_apache.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if kind, b, ok := strings.Cut(strings.TrimSpace(line), " "); ok && kind != "#" {
			each(kind, unhex(t, b))
		}
	}
}

func TestRecordedElectionComesBack(t *testing.T) {
	readElection(t, func(kind string, b []byte) {
		if kind == "initial" {
			recode(t, kind, b, &InitialMessage{})
			return
		}
		n, err := DecodeNotification(b)
		if err != nil || n.Version != 2 || n.NoVote || n.Vote.Epoch == 0 || n.State == zab.Looking {
			t.Errorf("%+v, %v", n, err)
		}
		if got := AppendNotification(nil, &n); !bytes.Equal(got, b) {
			t.Errorf("got %x, want %x", got, b)
		}
		if _, err := zab.ParseEnsemble(string(n.Ensemble)); err != nil {
			t.Error(err)
		}
	})
}

func TestInitialMessageForms(t *testing.T) {
	for name, m := range map[string]*InitialMessage{
		"id alone":      {Server: 3},
		"one address":   {3, []string{"zoo3.example:3888"}},
		"IPv6":          {3, []string{"[2001:db8::1]:3888"}},
		"two addresses": {3, []string{"a:3888", "[::1]:3889"}},
		"anonymous":     {AnonymousObserver, []string{"a:1"}},
	} {
		b := m.Append(nil)
		recode(t, name, b, &InitialMessage{})
		for need, n := 0, 0; ; need = n {
			var err error
			if n, err = InitialMessageSize(b[:need]); err != nil || n > len(b) {
				t.Fatalf("%s: %d bytes: size %d, %v, want %d", name, need, n, err, len(b))
			}
			if n <= need {
				break
			}
		}
		for n := range len(b) {
			var got InitialMessage
			if err := Unmarshal(b[:n], &got); err == nil {
				t.Errorf("%s: %d of %d bytes are enough", name, n, len(b))
			}
		}
	}
	head := func(size int32) []byte { return AppendInt(AppendLong(AppendLong(nil, initialV1), 3), size) }
	for name, b := range map[string][]byte{
		"version 0":       AppendLong(nil, -65534),
		"TLS":             unhex(t, "ffff030100e70100"),
		"no address":      head(0),
		"negative length": head(-1),
		"long address":    head(MaxInitialAddress + 1),
		"no port":         append(head(4), "host"...),
		"port 0":          append(head(6), "host:0"...),
		"port 65536":      append(head(10), "host:65536"...),
		"no host":         append(head(5), ":3888"...),
		"control":         append(head(6), "a\nb:38"...),
		"not UTF-8":       append(head(6), "a\xffb:38"...),
		"bare IPv6":       append(head(8), "::1:3888"...),
		"open bracket":    append(head(9), "[::1:3888"...),
		"negative id":     (&InitialMessage{-3, []string{"a:1"}}).Append(nil),
	} {
		var m InitialMessage
		if err := Unmarshal(b, &m); !errors.Is(err, ErrInitial) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestNotificationForms(t *testing.T) {
	z := zab.NewZxid(4, 2)
	base := func(state int32, leader, zxid int64) []byte {
		return AppendLong(AppendLong(AppendLong(AppendInt(nil, state), leader), zxid), 9)
	}
	v28 := base(2, 3, int64(z))
	v40 := AppendInt(AppendLong(bytes.Clone(v28), 5), 2)
	list := func(version, size int32, s string) []byte {
		return append(AppendInt(AppendInt(AppendLong(bytes.Clone(v28), 5), version), size), s...)
	}
	n := zab.Notification{State: zab.Leading, Vote: zab.Vote{Leader: 3, Zxid: z, Epoch: 4}, Round: 9}
	n5 := n
	n5.Vote.Epoch = 5
	with := func(n zab.Notification, version int32, list []byte) zab.Notification {
		n.Version, n.Ensemble = version, list
		return n
	}
	none := zab.Notification{State: zab.Observing, Round: 9, NoVote: true}
	for _, tc := range []struct {
		name string
		b    []byte
		want zab.Notification
	}{
		{"28 bytes take the epoch from the zxid", v28, n},
		{"40 bytes have a version that does not count", v40, n5},
		{"version 1 has no list", list(1, 77, ""), with(n5, 1, nil)},
		{"version 2", list(2, 3, "abc"), with(n5, 2, []byte("abc"))},
		{"version 2, empty list", list(2, 0, ""), with(n5, 2, []byte{})},
		{"version 3 is read as 2", list(3, 3, "abc"), with(n5, 3, []byte("abc"))},
		{"observer, 28 bytes", base(3, noVote, noVote), none},
		{"observer", AppendInt(AppendLong(base(3, noVote, noVote), noVote), 2), none},
		{"lost disk", AppendInt(AppendLong(base(3, 3, -1), -1), 2), none},
	} {
		got, err := DecodeNotification(tc.b)
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
	for name, b := range map[string][]byte{
		"27 bytes":          v28[:27],
		"29 bytes":          v40[:29],
		"39 bytes":          v40[:39],
		"41 bytes":          list(2, 0, "")[:41],
		"list too long":     list(2, 4, "abc"),
		"negative list":     list(2, -2, "abc"),
		"state 4":           base(4, 3, int64(z)),
		"state -1":          base(-1, 3, int64(z)),
		"epoch above int32": AppendInt(AppendLong(base(0, 3, int64(z)), math.MaxUint32+1), 2),
		"epoch below -1":    AppendInt(AppendLong(base(0, 3, int64(z)), -2), 2),
	} {
		if got, err := DecodeNotification(b); !errors.Is(err, ErrNotification) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzInitialMessage(f *testing.F) {
	f.Add(unhex(f, apacheInitial))
	f.Add((&InitialMessage{3, []string{"a:3888", "[::1]:3889"}}).Append(nil))
	f.Add((&InitialMessage{Server: 3}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkStable(t, b, func() Record { return &InitialMessage{} })
		if n, err := InitialMessageSize(b); err == nil && n > initialHead+MaxInitialAddress {
			t.Errorf("size %d", n)
		}
	})
}

func FuzzNotification(f *testing.F) {
	f.Add(unhex(f, apacheNotification))
	readElection(f, func(kind string, b []byte) {
		if kind == "notification" {
			f.Add(b)
		}
	})
	f.Add(AppendNotification(nil, &zab.Notification{NoVote: true, State: zab.Observing}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNotification(b)
		if err != nil {
			return
		}
		enc := AppendNotification(nil, &n)
		again, err := DecodeNotification(enc)
		n.Version = 2
		if n.Ensemble == nil {
			n.Ensemble = []byte{}
		}
		if err != nil || !reflect.DeepEqual(again, n) {
			t.Fatalf("%+v became %+v, %v", n, again, err)
		}
		if len(enc) > len(b)+16 {
			t.Errorf("%d bytes from %d", len(enc), len(b))
		}
	})
}
