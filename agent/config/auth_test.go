package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAuthFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "auth")
	for text, want := range map[string]string{
		"digest:super:secret\n": "digest super:secret", "digest:super:a b\r\nsecond": "digest super:a b", "x:": "x ", "": "", ":x": "", "no colon": "",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		auth, err := ReadAuth(name)
		if (err == nil) != (want != "") {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && auth[0].Scheme+" "+string(auth[0].Data) != want {
			t.Errorf("%q is read as %+v, want %q", text, auth, want)
		}
		if err != nil && strings.Contains(err.Error(), "no colon") {
			t.Errorf("the error shows what may be a secret: %v", err)
		}
	}
	if auth, err := ReadAuth(""); auth != nil || err != nil {
		t.Errorf("no file: %v, %v", auth, err)
	}
	if _, err := ReadAuth(name + ".none"); err == nil {
		t.Error("a file that is not there is taken for no user")
	}
}
