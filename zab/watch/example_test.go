package watch_test

import (
	"fmt"

	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
)

// Ann reads /a with a watch, Ben follows all that happens below the root.
func ExampleManager() {
	m := watch.New[string]()
	m.Add("ann", "/a", watch.Data)
	m.Add("ben", "/", watch.Recursive)
	fmt.Println(m.Fire(wire.EventNodeDataChanged, "/a", nil))
	fmt.Println(m.Fire(wire.EventNodeDataChanged, "/a", nil)) // Ann has had hers
	// Output:
	// [ann ben]
	// [ben]
}
