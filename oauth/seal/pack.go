package seal

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"
)

// A Packer compresses the content of client_ids and cookies, where every byte counts. A compressor takes 800 KB and a
// millisecond to make, and strangers can cause this as often as they like, so compressors are reused.
type Packer struct {
	words            []byte // common to most inputs; referred to instead of repeated
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

// unpack is the inverse of pack. The caller must check that this server made packed: the output has no limit.
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
