package record

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
)

// Log reads the transaction logs in the directory of a server that was stopped,
// ours or Apache's, in the order of their zxids. An unfinished write ends a file.
func Log(dir string) ([]*wire.Txn, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	type logFile struct {
		name string
		zxid uint64
	}
	var logs []logFile
	for _, f := range files {
		if hex, ok := strings.CutPrefix(f.Name(), "log."); ok {
			if zxid, err := strconv.ParseUint(hex, 16, 64); err == nil {
				logs = append(logs, logFile{f.Name(), zxid})
			}
		}
	}
	slices.SortFunc(logs, func(a, b logFile) int { return cmp.Compare(a.zxid, b.zxid) })
	var txns []*wire.Txn
	for _, l := range logs {
		for entry, err := range storage.LogEntries(filepath.Join(dir, l.name)) {
			var damage *storage.DamageError
			if errors.As(err, &damage) {
				break
			}
			if err != nil {
				return nil, err
			}
			txn, err := entry.Txn()
			if err != nil {
				return nil, fmt.Errorf("%s, offset %d: %w", entry.File, entry.Offset, err)
			}
			txns = append(txns, txn)
		}
	}
	return txns, nil
}
