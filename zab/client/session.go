package client

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/zab"
)

// A Session is what a process needs to take a session up again, also after it
// was restarted. As text (and so in JSON) it is one line; who can read it can
// take over the session and its ephemeral znodes, so store it with mode 0600.
type Session struct {
	ID       zab.SessionID // 0: none
	Password [16]byte
	Timeout  time.Duration // as negotiated
	LastZxid zab.Zxid      // the newest state that was seen; servers behind it refuse the client
}

// MarshalText returns id, password, timeout in ms and last zxid.
func (s Session) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%v %x %d %v", s.ID, s.Password, s.Timeout.Milliseconds(), s.LastZxid), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *Session) UnmarshalText(text []byte) error {
	f := strings.Fields(string(text))
	if len(f) != 4 {
		return fmt.Errorf("session: %d fields, want 4", len(f))
	}
	id, err := parseHex(f[0])
	if err != nil {
		return fmt.Errorf("session id: %w", err)
	}
	var password [16]byte
	if n, err := hex.Decode(password[:], []byte(f[1][:min(len(f[1]), 32)])); err != nil || n != 16 || len(f[1]) != 32 {
		return fmt.Errorf("session password: not 16 bytes in hexadecimal")
	}
	ms, err := strconv.ParseUint(f[2], 10, 31)
	if err != nil {
		return fmt.Errorf("session timeout: %w", err)
	}
	zxid, err := parseHex(f[3])
	if err != nil {
		return fmt.Errorf("session last zxid: %w", err)
	}
	*s = Session{zab.SessionID(id), password, time.Duration(ms) * time.Millisecond, zab.Zxid(zxid)}
	return nil
}

func parseHex(s string) (uint64, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return 0, fmt.Errorf("%q does not begin with 0x", s)
	}
	return strconv.ParseUint(digits, 16, 64)
}

// String leaves the password out.
func (s Session) String() string { return fmt.Sprintf("%v timeout %v", s.ID, s.Timeout) }

// LogValue leaves the password out.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.String()) }
