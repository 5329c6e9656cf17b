package storage_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
)

// The last mark before a quiet time becomes safe too, and nothing is synced while
// nothing is written.
func TestTheMarkBecomesSafeInQuietTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk(1)
		s, err := storage.Open(storage.Config{DataDir: "/data", FS: disk, PreallocBytes: 64 << 10, MarkInterval: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Recover(); err != nil {
			t.Fatal(err)
		}
		for z := zab.Zxid(1); z <= 3; z++ {
			if err := s.Append(txnOf(z).Append(nil), z); err != nil {
				t.Fatal(err)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		before := disk.Ops()
		time.Sleep(time.Second)
		synctest.Wait()
		after := disk.Ops()
		if after == before {
			t.Error("the mark was not made safe")
		}
		time.Sleep(time.Minute)
		if n := disk.Ops(); n != after {
			t.Errorf("%d operations in a quiet minute", n-after)
		}
	})
}
