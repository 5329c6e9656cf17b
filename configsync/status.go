package configsync

import "time"

// The states of a target, from best to worst.
const (
	StateCurrent = "current" // the files are as the znodes
	StateKept    = "kept"    // some source is gone or empty, and its last good file stands
	StateEdited  = "edited"  // somebody changed a file, and the policy is to leave it
	StateWaiting = "waiting" // the znodes were not read since the start
	StateStale   = "stale"   // no connection: the files are as the znodes were last known to be
	StateFailing = "failing" // something is wrong; Error and the files say what
)

// TargetStatus says how a target is; it is meant for JSON.
type TargetStatus struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
	Tree bool   `json:"tree,omitempty"`
	// State is one of the State constants.
	State string `json:"state"`
	// Error is why the whole target fails, "" if it does not.
	Error string `json:"error,omitempty"`
	// Since is when State began.
	Since time.Time `json:"since"`
	// Zxid is the newest transaction that is in the files.
	Zxid string `json:"zxid"`
	// Read is when the znodes were last read, Written when a file was last written.
	Read    time.Time `json:"read,omitzero"`
	Written time.Time `json:"written,omitzero"`
	// Writes counts files written since the start; Restores those of them that
	// somebody else had changed.
	Writes   uint64 `json:"writes"`
	Restores uint64 `json:"restores"`
	// Refused counts changes that a check or a bound kept out.
	Refused uint64         `json:"refused"`
	Check   *CommandStatus `json:"check,omitempty"`
	Reload  *CommandStatus `json:"reload,omitempty"`
	// Files are sorted by path. Of more than 1000 (FileCount) only the worst are
	// listed.
	Files     []FileStatus `json:"files"`
	FileCount int          `json:"file_count"`
}

// FileStatus says how one file is.
type FileStatus struct {
	// Path is the file's absolute path.
	Path string `json:"path,omitempty"`
	// Znode is its source.
	Znode string `json:"znode,omitempty"`
	// State is current, kept, edited or failing.
	State string `json:"state"`
	// Reason explains other states than current.
	Reason string `json:"reason,omitempty"`
	// Zxid, SHA256, Size and Written tell what the mirror put there; "" and zero
	// if it never did.
	Zxid    string    `json:"zxid,omitempty"`
	SHA256  string    `json:"sha256,omitempty"`
	Size    int64     `json:"size"`
	Written time.Time `json:"written,omitzero"`
	// InPlace says that the file could not be replaced and was written into.
	InPlace bool `json:"in_place,omitempty"`
}
