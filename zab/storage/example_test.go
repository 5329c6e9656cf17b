package storage_test

import (
	"fmt"

	"github.com/paddockio/paddock/zab/storage"
)

func ExampleLogEntries() {
	for e, err := range storage.LogEntries("testdata/apache/plain/version-2/log.33") {
		if err != nil {
			fmt.Println(err)
			return
		}
		txn, err := e.Txn()
		fmt.Println(e.Zxid, txn.Header.Type, err)
	}
	// Output:
	// 0x33 createSession <nil>
	// 0x34 create <nil>
	// 0x35 closeSession <nil>
}
