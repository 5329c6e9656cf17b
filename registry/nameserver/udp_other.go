//go:build !linux

package nameserver

import (
	"net"
	"net/netip"
)

// A udpSocket reads queries and sends replies. Listen on the addresses that
// clients use: on a socket for all addresses the system chooses the source of
// a reply.
type udpSocket struct{ c *net.UDPConn }

func newUDPSocket(c *net.UDPConn) *udpSocket { return &udpSocket{c} }

func prepareUDP(*net.UDPConn) error { return nil }

func (s *udpSocket) read(b []byte) (int, netip.AddrPort, error) { return s.c.ReadFromUDPAddrPort(b) }

func (s *udpSocket) write(b []byte, client netip.AddrPort) error {
	_, err := s.c.WriteToUDPAddrPort(b, client)
	return err
}
