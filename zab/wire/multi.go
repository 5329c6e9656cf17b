package wire

import "fmt"

// multiEnd closes every list of operations and of results.
var multiEnd = multiHeader{Op: -1, Done: true, Err: -1}

type multiHeader struct {
	Op   Op
	Done bool
	Err  int32
}

func (h *multiHeader) Append(b []byte) []byte {
	return AppendInt(AppendBool(AppendInt(b, int32(h.Op)), h.Done), h.Err)
}

func (h *multiHeader) Decode(d *Decoder) { h.Op, h.Done, h.Err = Op(d.Int()), d.Bool(), d.Int() }

// MultiOp is one operation of a multi or multiRead. Record is a *CreateRequest
// (create, create2, createContainer, createTTL), *PathVersion (delete, check),
// *SetDataRequest or *PathWatch (getData, getChildren).
type MultiOp struct {
	Op     Op
	Record Record
}

// MultiRequest is the record of multi and multiRead (class
// MultiOperationRecord). Decode refuses a mixture of reads and writes.
type MultiRequest struct{ Ops []MultiOp }

// Append implements Record.
func (r *MultiRequest) Append(b []byte) []byte {
	for _, op := range r.Ops {
		b = (&multiHeader{Op: op.Op, Err: -1}).Append(b)
		b = op.Record.Append(b)
	}
	return multiEnd.Append(b)
}

// Decode implements Record.
func (r *MultiRequest) Decode(d *Decoder) {
	r.Ops = nil
	for d.Err() == nil {
		var h multiHeader
		h.Decode(d)
		if h.Done || d.Err() != nil {
			return
		}
		op := MultiOp{Op: h.Op, Record: newMultiRecord(h.Op)}
		if op.Record == nil {
			d.Fail(fmt.Errorf("at byte %d: operation %v in a multi", d.Offset()-9, h.Op))
			return
		}
		if len(r.Ops) > 0 && op.isRead() != r.Ops[0].isRead() {
			d.Fail(fmt.Errorf("at byte %d: reads and writes in one multi", d.Offset()-9))
			return
		}
		op.Record.Decode(d)
		r.Ops = append(r.Ops, op)
	}
}

// IsRead reports whether the operations are those of multiRead; an empty list
// is both.
func (r *MultiRequest) IsRead() bool { return len(r.Ops) > 0 && r.Ops[0].isRead() }

func (o *MultiOp) isRead() bool { return o.Op == OpGetData || o.Op == OpGetChildren }

func newMultiRecord(op Op) Record {
	switch op {
	case OpCreate, OpCreate2, OpCreateContainer:
		return &CreateRequest{}
	case OpCreateTTL:
		return &CreateRequest{HasTTL: true}
	case OpDelete, OpCheck:
		return &PathVersion{}
	case OpSetData:
		return &SetDataRequest{}
	case OpGetData, OpGetChildren:
		return &PathWatch{}
	}
	return nil
}

// MultiResult is the outcome of one operation. For a failed one Op is OpFailed
// and Err says why; Record is then nil. Otherwise Record is a *PathRecord
// (create), *CreateResponse (Op is OpCreate2 for create2, createContainer and
// createTTL), *Stat (setData), nil (delete, check), *GetDataResponse or
// *PathsRecord (getChildren).
type MultiResult struct {
	Op     Op
	Err    Code
	Record Record
}

// MultiResponse answers multi and multiRead. A failed multi has ReplyHeader.err
// 0: the codes are here.
type MultiResponse struct{ Results []MultiResult }

// Append implements Record.
func (r *MultiResponse) Append(b []byte) []byte {
	for _, res := range r.Results {
		b = AppendMultiResult(b, res)
	}
	return AppendMultiEnd(b)
}

// AppendMultiResult appends one result, for who builds a MultiResponse piece by
// piece.
func AppendMultiResult(b []byte, res MultiResult) []byte {
	b = (&multiHeader{Op: res.Op, Err: int32(res.Err)}).Append(b)
	if res.Op == OpFailed {
		return AppendInt(b, int32(res.Err))
	}
	if res.Record != nil {
		b = res.Record.Append(b)
	}
	return b
}

// AppendMultiEnd closes a list of results.
func AppendMultiEnd(b []byte) []byte { return multiEnd.Append(b) }

// Decode implements Record.
func (r *MultiResponse) Decode(d *Decoder) {
	r.Results = nil
	for d.Err() == nil {
		var h multiHeader
		h.Decode(d)
		if h.Done || d.Err() != nil {
			return
		}
		res := MultiResult{Op: h.Op, Err: Code(h.Err)}
		switch h.Op {
		case OpFailed:
			res.Err = Code(d.Int())
		case OpCreate:
			res.Record = &PathRecord{}
		case OpCreate2, OpCreateContainer, OpCreateTTL:
			res.Record = &CreateResponse{}
		case OpSetData:
			res.Record = &Stat{}
		case OpGetData:
			res.Record = &GetDataResponse{}
		case OpGetChildren:
			res.Record = &PathsRecord{}
		case OpDelete, OpCheck:
		default:
			d.Fail(fmt.Errorf("at byte %d: result of type %v in a multi", d.Offset()-9, h.Op))
		}
		if res.Record != nil {
			res.Record.Decode(d)
		}
		r.Results = append(r.Results, res)
	}
}
