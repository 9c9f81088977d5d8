package seal

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"
)

// A Packer compresses small things: what goes into client_ids and cookies, where every byte counts. A compressor takes
// 800 KB and a millisecond to make, and strangers can ask for one as often as they like, so they are used again.
type Packer struct {
	words            []byte // what the things have in common; it is referred to instead of repeated
	writers, readers sync.Pool
}

func NewPacker(words string) *Packer { return &Packer{words: []byte(words)} }

func (p *Packer) Pack(plain []byte) []byte {
	var b bytes.Buffer
	w, ok := p.writers.Get().(*flate.Writer)
	if ok {
		w.Reset(&b)
	} else {
		w, _ = flate.NewWriterDict(&b, flate.BestCompression, p.words) // fails only for an unknown level
	}
	w.Write(plain) // a Buffer takes everything
	w.Close()
	p.writers.Put(w)
	return b.Bytes()
}

// unpack is the inverse of pack. The caller has made sure that packed is ours: there is no limit on what comes out.
func (p *Packer) Unpack(packed []byte) ([]byte, error) {
	r, ok := p.readers.Get().(io.Reader)
	if ok {
		r.(flate.Resetter).Reset(bytes.NewReader(packed), p.words)
	} else {
		r = flate.NewReaderDict(bytes.NewReader(packed), p.words)
	}
	defer p.readers.Put(r)
	return io.ReadAll(r)
}
