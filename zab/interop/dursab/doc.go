// Package torture holds the tests that kill the real binary under load, and
// check that nothing acknowledged is lost and nothing expired stays.
package torture
