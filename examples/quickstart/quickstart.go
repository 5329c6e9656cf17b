// Package quickstart holds the services and the configuration that
// `paddock agent -dev` starts with: what a service file looks like, and a znode
// that becomes a file.
package quickstart

import "embed"

// Files holds services.d, with one file for each sample service, and config,
// with one file for each znode below /config/app.
//
//go:embed services.d config
var Files embed.FS
