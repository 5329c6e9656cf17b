// Package torture holds the tests that kill the real binary under load, and
// check that nothing acknowledged is lost and nothing expired stays.
//
// PADDOCK_TORTURE_ROUNDS is how often the server is killed, by default 200; the
// other tests do a fraction of it.
package torture
