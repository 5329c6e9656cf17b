package nameserver

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// A udpSocket reads queries and sends each reply from the address that its
// query was sent to. On a socket for all addresses the kernel would otherwise
// choose by the route back, and a client drops what comes from a stranger.
type udpSocket struct {
	c   *net.UDPConn
	oob []byte // nil on a socket for one address
	n   int    // of oob, for the last query
}

func newUDPSocket(c *net.UDPConn) *udpSocket {
	s := &udpSocket{c: c}
	if onAllAddresses(c) {
		s.oob = make([]byte, 128)
	}
	return s
}

func onAllAddresses(c *net.UDPConn) bool { return c.LocalAddr().(*net.UDPAddr).IP.IsUnspecified() }

// prepareUDP makes the kernel tell where each packet was sent to. Queries that
// came before are answered without knowing.
func prepareUDP(c *net.UDPConn) error {
	if !onAllAddresses(c) {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var err4, err6 error
	err = raw.Control(func(fd uintptr) {
		err4 = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		err6 = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
	})
	if err == nil && err4 != nil && err6 != nil { // each fails on the other family
		err = os.NewSyscallError("setsockopt IP_PKTINFO", err4)
	}
	return err
}

func (s *udpSocket) read(b []byte) (int, netip.AddrPort, error) {
	if s.oob == nil {
		return s.c.ReadFromUDPAddrPort(b)
	}
	n, oobn, _, client, err := s.c.ReadMsgUDPAddrPort(b, s.oob)
	s.n = oobn
	return n, client, err
}

// write replies to the last query read.
func (s *udpSocket) write(b []byte, client netip.AddrPort) error {
	if s.oob == nil {
		_, err := s.c.WriteToUDPAddrPort(b, client)
		return err
	}
	_, _, err := s.c.WriteMsgUDPAddrPort(b, source(s.oob[:s.n]), client)
	return err
}

// source turns the control message of a packet received into the one that
// makes its destination the source of the reply. It does not choose the
// interface: the reply takes the route that the kernel has.
func source(oob []byte) []byte {
	const (
		head = syscall.SizeofCmsghdr
		v4   = syscall.SizeofInet4Pktinfo // ifindex, local address, destination
		v6   = syscall.SizeofInet6Pktinfo // address, ifindex
	)
	if len(oob) < head {
		return nil
	}
	level := int(binary.NativeEndian.Uint32(oob[head-8:]))
	kind := int(binary.NativeEndian.Uint32(oob[head-4:]))
	switch {
	case level == syscall.IPPROTO_IP && kind == syscall.IP_PKTINFO && len(oob) >= head+v4:
		clear(oob[head : head+4])
		return oob[:syscall.CmsgSpace(v4)]
	case level == syscall.IPPROTO_IPV6 && kind == syscall.IPV6_PKTINFO && len(oob) >= head+v6:
		if !(oob[head] == 0xfe && oob[head+1]&0xc0 == 0x80) { // link-local needs it
			clear(oob[head+16 : head+20])
		}
		return oob[:syscall.CmsgSpace(v6)]
	}
	return nil
}
