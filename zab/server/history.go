package server

import (
	"errors"
	"fmt"
	"io"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// History goes from the leader's disk or tree to a learner in goroutines of their
// own, on the writer of its link; the node only hears of the end.

// startHistory starts what the node wants looked up and written. Everything
// committed in this Ready is in the tree.
func (m *member) startHistory(rd *zab.Ready) {
	s := m.s
	for _, q := range rd.Locate {
		s.background.Go(func() {
			at, err := s.store.Locate(q.Zxid)
			if err != nil && !errors.Is(err, storage.ErrNoHistory) {
				m.log.Warn("history of a learner not found in the log", "zxid", q.Zxid, "err", err)
			}
			m.post(event{msg: zab.Message{Type: zab.MsgLocated, Link: q.Link, Zxid: at, Failed: err != nil}})
		})
	}
	for _, st := range rd.Stream {
		l := m.links[st.Link]
		switch {
		case l == nil:
		case !st.Snapshot:
			s.background.Go(func() { m.streamLog(l.Link, st) })
		case s.freezing:
			s.toFreeze = append(s.toFreeze, func() { m.streamSnapshot(l.Link) })
		default:
			m.streamSnapshot(l.Link)
		}
	}
}

// streamLog writes a part of the log as PROPOSAL and COMMIT.
func (m *member) streamLog(l *transport.Link, st zab.Stream) {
	last := st.After
	err := l.Stream(func(w io.Writer) error {
		w = m.progressWriter(l, w)
		var b []byte
		for e, err := range m.s.store.Entries(st.After) {
			if err != nil {
				return err
			}
			if e.Zxid > st.Until {
				break
			}
			p := zab.Proposal{Zxid: e.Zxid, Data: e.Payload}
			b = wire.AppendMessage(b[:0], &zab.Message{Type: zab.MsgProposal, Proposal: p})
			b = wire.AppendMessage(b, &zab.Message{Type: zab.MsgCommit, Zxid: e.Zxid})
			if _, err := w.Write(b); err != nil {
				return err
			}
			last = e.Zxid
		}
		return nil
	})
	if err == nil && last != st.Until {
		err = fmt.Errorf("the log ends at %v", last)
	}
	m.streamed(l, last, err)
}

// streamed reports the end of a stream. If it has failed with the link the node
// hears of that too.
func (m *member) streamed(l *transport.Link, last zab.Zxid, err error) {
	if err != nil {
		m.log.Warn("history not sent to a learner", "peer", l.Peer(), "err", err)
	}
	m.post(event{msg: zab.Message{Type: zab.MsgStreamed, Link: l.ID(), Zxid: last, Failed: err != nil}})
}

// streamSnapshot writes the tree as it is now. It runs in the driver, when no tree
// is frozen.
func (m *member) streamSnapshot(l *transport.Link) {
	s := m.s
	if m.links[l.ID()] == nil {
		m.s.thawed(thaw{}) // it has ended while it waited: the next one
		return
	}
	s.freeze(func(f *znode.Frozen) thaw {
		zxid, walked := f.Zxid, false
		err := l.Stream(func(w io.Writer) error {
			head := wire.AppendMessage(nil, &zab.Message{Type: zab.MsgSnap, Zxid: zxid})
			if _, err := w.Write(head); err != nil {
				return err
			}
			walked = true
			return storage.EncodeStream(m.progressWriter(l, w), f, s.treeMu.RLocker())
		})
		if !walked {
			f.Discard(s.treeMu.RLocker())
		}
		if err == nil {
			s.stats.SnapshotsSent.Add(1)
			m.log.Info("snapshot sent to a learner", "peer", l.Peer(), "zxid", zxid)
		}
		m.streamed(l, zxid, err)
		return thaw{err: err}
	})
}

// readSnapshot reads the tree behind a SNAP packet, in the reader of the link.
func (m *member) readSnapshot(l *transport.Link, p wire.QuorumPacket, r *transport.SnapshotReader) error {
	link := l.ID()
	progress := &progressReader{r: r, report: m.reportProgress(l)}
	tree, rest, err := storage.ReadStream(progress, m.s.cfg.Znode, p.Zxid)
	if err != nil {
		return err
	}
	r.Unread(rest)
	m.log.Info("snapshot received from the leader", "zxid", p.Zxid, "znodes", tree.NodeCount(), "bytes", progress.total)
	msg, err := p.Message()
	if err != nil {
		return err
	}
	m.post(event{do: func() error { m.keepSnapshot(link, tree); return nil }}, event{link: l, msg: msg})
	return nil
}

// keepSnapshot keeps the first tree of a link for the node to install. The node
// refuses another, but perhaps only after it has asked for the first.
func (m *member) keepSnapshot(id zab.LinkID, tree *znode.Tree) {
	if l := m.links[id]; l != nil && !l.snapshot {
		l.snapshot = true
		m.learning.snapshot = arrived{id, tree}
	}
}

// takeSnapshot returns the tree that came over a link, once.
func (m *member) takeSnapshot(id zab.LinkID) *znode.Tree {
	a := m.learning.snapshot
	m.learning.snapshot = arrived{}
	if a.link != id {
		panic(fmt.Sprintf("zab/server: no snapshot came over link %d", id))
	}
	return a.tree
}

// progressEvery is after how many bytes the node hears that a copy comes forward.
const progressEvery = 1 << 20

func (m *member) reportProgress(l *transport.Link) func() {
	return func() { m.post(event{link: l, msg: zab.Message{Type: zab.MsgProgress}}) }
}

type progressReader struct {
	r              io.Reader
	total, pending int64
	report         func()
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.total += int64(n)
	if p.pending += int64(n); p.pending >= progressEvery {
		p.pending = 0
		p.report()
	}
	return n, err
}

func (m *member) progressWriter(l *transport.Link, w io.Writer) io.Writer {
	return &progressWriter{w: w, report: m.reportProgress(l)}
}

type progressWriter struct {
	w       io.Writer
	pending int64
	report  func()
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if p.pending += int64(n); p.pending >= progressEvery {
		p.pending = 0
		p.report()
	}
	return n, err
}
