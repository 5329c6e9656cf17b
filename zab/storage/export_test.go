package storage

// AppendEntry lets tests make entries that no store would write.
var AppendEntry = appendEntry
