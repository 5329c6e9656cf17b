package record

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/zabtest/checker"
)

// A Driver does what a worker says, with a client of its own.
type Driver struct {
	// Config is that of the client; its Dial should record. A session that is closed
	// or expired is followed by another.
	Config client.Config

	// Worker says what to do.
	Worker checker.Worker

	// Rand belongs to the driver.
	Rand *rand.Rand

	// Pause is how long to wait when the worker waits, and after each operation.
	// Default 1ms.
	Pause time.Duration

	// OpTimeout is how long to wait for an answer; then the outcome is unknown. It is
	// better longer than the session timeout: an operation that is given up stays
	// under way. Default 30s.
	OpTimeout time.Duration

	c      *client.Client
	stop   func()
	events chan watched
	done   int
}

type watched struct {
	typ  wire.EventType
	path string
}

// eventQueue is how many events may wait until the worker is told. When it is full
// the rest wait in goroutines of their watches.
const eventQueue = 256

// Run does workloads with a number of clients, each of which does its part of all
// of them by turns, until ctx ends. It returns how many operations were answered.
// config is that of the clients; its Dial should record. Equal seeds give equal
// choices, but nothing else repeats.
func Run(ctx context.Context, config client.Config, loads []checker.Workload, clients int, seed uint64) (answered int, err error) {
	if err := Setup(ctx, config, loads); err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	counts, errs := make([]int, clients), make([]error, clients)
	for i := range clients {
		workers := make([]checker.Worker, len(loads))
		for j, l := range loads {
			workers[j] = l.Worker(i)
		}
		d := &Driver{Config: config, Worker: checker.Interleaved(workers...), Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		wg.Go(func() { counts[i], errs[i] = d.Run(ctx) })
	}
	wg.Wait()
	for _, n := range counts {
		answered += n
	}
	return answered, errors.Join(errs...)
}

// Setup makes what workloads need before their workers begin, with a client of its
// own. It tries again after a lost connection, until ctx ends.
func Setup(ctx context.Context, config client.Config, loads []checker.Workload) error {
	c, err := client.New(config)
	if err != nil {
		return err
	}
	rctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.Run(rctx) })
	for _, l := range loads {
		if err := setup(ctx, c, l); err != nil {
			return err
		}
	}
	return nil
}

// setup does what a workload needs before its workers begin.
func setup(ctx context.Context, c *client.Client, w checker.Workload) error {
	for _, a := range w.Setup {
		err := error(wire.ErrConnectionLoss)
		for errors.Is(err, wire.ErrConnectionLoss) {
			_, _, err = c.Create(ctx, a.Path, a.Data, a.ACL, a.Mode)
		}
		if err != nil && !errors.Is(err, wire.ErrNodeExists) {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return nil
}

// Run works until ctx ends, and returns how many operations were answered. The
// session is left open, for its timeout, if ctx ends.
func (d *Driver) Run(ctx context.Context) (int, error) {
	if d.Pause == 0 {
		d.Pause = time.Millisecond
	}
	if d.OpTimeout == 0 {
		d.OpTimeout = 30 * time.Second
	}
	d.events = make(chan watched, eventQueue)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if err := d.begin(ctx, &wg); err != nil {
		return 0, err
	}
	defer func() { d.stop() }()
	var session zab.SessionID
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return d.done, nil
		case e := <-d.events:
			d.Worker.Event(e.typ, e.path)
			continue
		case <-pause.C:
		}
		pause.Reset(d.Pause)
		if id := d.c.Session().ID; id != session {
			// 0 while there is none: the next operation waits for the next session.
			if session = id; id != 0 {
				d.Worker.Session(id)
			}
		}
		if session == 0 {
			if _, err := d.c.WhoAmI(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, wire.ErrSessionExpired) {
				return d.done, err
			}
			continue
		}
		a, ok := d.Worker.Next(d.Rand)
		if !ok {
			continue
		}
		if a.Op == wire.OpCloseSession {
			if err := d.closeSession(ctx, &wg); err != nil {
				return d.done, err
			}
			session = 0
			continue
		}
		res, err := d.do(ctx, &wg, a)
		if err != nil && ctx.Err() == nil {
			return d.done, err
		}
		if res != nil {
			d.done++
		}
		d.Worker.Done(&a, res)
	}
}

// begin makes a client.
func (d *Driver) begin(ctx context.Context, wg *sync.WaitGroup) error {
	c, err := client.New(d.Config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		c.Run(ctx)
	})
	d.c, d.stop = c, func() { cancel(); <-ended }
	return nil
}

func (d *Driver) closeSession(ctx context.Context, wg *sync.WaitGroup) error {
	a := checker.Args{Op: wire.OpCloseSession}
	cctx, cancel := context.WithTimeout(ctx, d.OpTimeout)
	defer cancel()
	var res *checker.Result
	if err := d.c.CloseSession(cctx); err == nil {
		res = &checker.Result{}
		d.done++
	}
	d.Worker.Done(&a, res)
	d.stop()
	return d.begin(ctx, wg)
}

// do carries out one operation. The result is nil if its outcome is unknown; the
// error is one that no workload expects.
func (d *Driver) do(ctx context.Context, wg *sync.WaitGroup, a checker.Args) (*checker.Result, error) {
	octx, cancel := context.WithTimeout(ctx, d.OpTimeout)
	defer cancel()
	var r checker.Result
	err := d.call(octx, ctx, wg, &a, &r)
	var code wire.Code
	switch {
	case err == nil:
		return &r, nil
	case errors.Is(err, wire.ErrConnectionLoss), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, nil
	case errors.As(err, &code):
		if a.Op != wire.OpMulti { // there the codes are with the operations
			r.Err = code
		}
		return &r, nil
	}
	return nil, err
}

// call calls the client. What belongs to watches goes on until run ends.
func (d *Driver) call(ctx, run context.Context, wg *sync.WaitGroup, a *checker.Args, r *checker.Result) (err error) {
	c := d.c
	var events <-chan client.Event
	switch a.Op {
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer:
		r.Created, r.Stat, err = c.Create(ctx, a.Path, a.Data, a.ACL, a.Mode)
	case wire.OpCreateTTL:
		r.Created, r.Stat, err = c.CreateTTL(ctx, a.Path, a.Data, a.ACL, a.Mode, time.Duration(a.TTLMs)*time.Millisecond)
	case wire.OpDelete:
		err = c.Delete(ctx, a.Path, a.Version)
	case wire.OpSetData:
		r.Stat, err = c.Set(ctx, a.Path, a.Data, a.Version)
	case wire.OpSetACL:
		acl := a.ACL
		if acl == nil {
			acl = wire.OpenACL()
		}
		r.Stat, err = c.SetACL(ctx, a.Path, acl, a.Version)
	case wire.OpGetData:
		if a.Watch {
			r.Value, r.Stat, events, err = c.GetW(ctx, a.Path)
		} else {
			r.Value, r.Stat, err = c.Get(ctx, a.Path)
		}
	case wire.OpExists:
		found := false
		if a.Watch {
			r.Stat, found, events, err = c.ExistsW(ctx, a.Path)
		} else {
			r.Stat, found, err = c.Exists(ctx, a.Path)
		}
		if err == nil && !found {
			r.Err = wire.ErrNoNode
		}
	case wire.OpGetChildren, wire.OpGetChildren2:
		if a.Watch {
			r.Children, r.Stat, events, err = c.ChildrenW(ctx, a.Path)
		} else {
			r.Children, r.Stat, err = c.Children(ctx, a.Path)
		}
	case wire.OpGetACL:
		r.List, r.Stat, err = c.GetACL(ctx, a.Path)
	case wire.OpGetEphemerals:
		r.Children, err = c.Ephemerals(ctx, a.Path)
	case wire.OpGetAllChildrenNumber:
		var n int
		n, err = c.AllChildrenNumber(ctx, a.Path)
		r.Count = int32(n)
	case wire.OpSync:
		err = c.Sync(ctx, a.Path)
	case wire.OpMulti, wire.OpMultiRead:
		var results []wire.MultiResult
		if ops := a.Request().(*wire.MultiRequest).Ops; a.Op == wire.OpMulti {
			results, err = c.Multi(ctx, ops...)
		} else {
			results, err = c.MultiRead(ctx, ops...)
		}
		r.Results = checker.ResultOf(0, wire.OK, &wire.MultiResponse{Results: results}).Results
	case wire.OpAddWatch:
		var w *client.Watch
		if w, err = c.AddWatch(ctx, a.Path, a.What); err == nil {
			events = w.Events()
		}
	case wire.OpRemoveWatches:
		err = c.RemoveWatches(ctx, a.Path, a.What)
	default:
		err = fmt.Errorf("%v is nothing that a driver can do", a.Op)
	}
	if events != nil {
		wg.Go(func() { d.forward(run, events) })
	}
	return err
}

// forward brings the events of one watch to the worker's goroutine.
func (d *Driver) forward(ctx context.Context, events <-chan client.Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			select {
			case d.events <- watched{e.Type, e.Path}:
			case <-ctx.Done():
				return
			}
		}
	}
}
