package config

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/paddockio/paddock/zab/client"
)

// maxAuth bounds the file with a user.
const maxAuth = 4096

// ReadAuth reads scheme:auth from the first line of a file, such as
// digest:super:secret. No file, "", is no user.
func ReadAuth(file string) ([]client.Auth, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxAuth)).ReadString('\n')
	if err != nil && err != io.EOF {
		return nil, err
	}
	scheme, auth, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
	if !ok || scheme == "" {
		// The text is not shown: it may be a secret.
		return nil, fmt.Errorf("%s: wants scheme:auth in the first line, such as digest:super:secret", file)
	}
	return []client.Auth{{Scheme: scheme, Data: []byte(auth)}}, nil
}
