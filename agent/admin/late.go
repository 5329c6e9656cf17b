package admin

import "github.com/paddockio/paddock/zab/server"

// SetZooKeeper shows the server of this process, which was opened after Listen.
func (a *Server) SetZooKeeper(zk *server.Server) { a.zk.Store(zk) }

// zooKeeper is the server of this process, nil if there is none, or none yet.
func (a *Server) zooKeeper() *server.Server { return a.zk.Load() }
