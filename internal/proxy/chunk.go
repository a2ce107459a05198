package proxy

// maxTrailer bounds the trailer section, maxChunkLine a chunk's size with its extensions.
const (
	maxTrailer   = 8 << 10
	maxChunkLine = 256
)

// chunkDecoder decodes the chunked coding as bytes arrive. It is strict: a size is hexadecimal digits, each line ends in
// CRLF, extensions hold no control characters. Extensions don't pass on; trailers are kept for the caller.
type chunkDecoder struct {
	state   chunkState
	left    uint64 // of the chunk's data
	line    int    // bytes of the current size line
	trailer []byte // the trailer section so far, with its final empty line
	scan    headScanner
}

type chunkState uint8

const (
	chunkStart   chunkState = iota // before a size's first digit
	chunkSize                      // in it
	chunkSpace                     // in the space before an extension
	chunkExt                       // in an extension
	chunkSizeLF                    // after the CR of a size line
	chunkData                      // in the data
	chunkDataCR                    // after it
	chunkDataLF                    // after its CR
	chunkTrailer                   // in the trailer section
	chunkDone
)

// decode decodes b in place: the data move to its beginning. It returns how many bytes of data there are, how many bytes
// of b it used (all, unless the body ended), and whether the body has ended.
func (d *chunkDecoder) decode(b []byte) (data, used int, end bool, err error) {
	for used < len(b) {
		switch c := b[used]; d.state {
		case chunkStart, chunkSize:
			x := uint64(0)
			switch {
			case c >= '0' && c <= '9':
				x = uint64(c - '0')
			case c|32 >= 'a' && c|32 <= 'f':
				x = uint64(c|32-'a') + 10
			case d.state == chunkStart:
				return data, used, false, errBadChunk
			case c == '\r':
				d.state = chunkSizeLF
				used++
				continue
			case c == ';':
				d.state = chunkExt
				used++
				continue
			case c == ' ' || c == '\t':
				d.state = chunkSpace
				used++
				continue
			default:
				return data, used, false, errBadChunk
			}
			if d.line++; d.line > 15 { // 60 bits
				return data, used, false, errBadChunk
			}
			d.left = d.left<<4 | x
			d.state = chunkSize
			used++
		case chunkSpace:
			if c == ';' {
				d.state = chunkExt
			} else if c != ' ' && c != '\t' {
				return data, used, false, errBadChunk
			} else if d.line++; d.line > maxChunkLine {
				return data, used, false, errBadChunk
			}
			used++
		case chunkExt:
			if c == '\r' {
				d.state = chunkSizeLF
			} else if class[c]&isValue == 0 {
				return data, used, false, errBadChunk
			} else if d.line++; d.line > maxChunkLine {
				return data, used, false, errBadChunk
			}
			used++
		case chunkSizeLF:
			if c != '\n' {
				return data, used, false, errBadChunk
			}
			d.line = 0
			d.state = chunkData
			if d.left == 0 {
				d.state = chunkTrailer
				d.trailer = d.trailer[:0]
				d.scan = headScanner{}
			}
			used++
		case chunkData:
			n := len(b) - used
			if uint64(n) > d.left {
				n = int(d.left)
			}
			if data != used {
				copy(b[data:], b[used:used+n])
			}
			data += n
			used += n
			if d.left -= uint64(n); d.left == 0 {
				d.state = chunkDataCR
			}
		case chunkDataCR:
			if c != '\r' {
				return data, used, false, errBadChunk
			}
			d.state = chunkDataLF
			used++
		case chunkDataLF:
			if c != '\n' {
				return data, used, false, errBadChunk
			}
			d.state = chunkStart
			used++
		case chunkTrailer:
			// The section ends with an empty line; look at one line at a time, so that nothing behind it is taken.
			n := 1
			for used+n < len(b) && b[used+n-1] != '\n' {
				n++
			}
			d.trailer = append(d.trailer, b[used:used+n]...)
			used += n
			if len(d.trailer) > maxTrailer {
				return data, used, false, errTrailerTooLarge
			}
			if _, err := d.scan.scan(d.trailer, maxTrailer); err == nil {
				d.state = chunkDone
				return data, used, true, d.filterTrailer()
			} else if err != errMore {
				return data, used, false, errTrailerTooLarge
			}
		case chunkDone:
			return data, used, true, nil
		}
	}
	return data, used, d.state == chunkDone, nil
}

// filterTrailer checks the trailer section and leaves in it only the lines that may pass on.
func (d *chunkDecoder) filterTrailer() error {
	if len(d.trailer) == 2 && d.trailer[0] == '\r' {
		d.trailer = d.trailer[:0]
		return nil
	}
	fs, err := parseFields(d.trailer, 0, nil)
	if err != nil {
		return errBadChunk
	}
	keep := make([]byte, 0, len(d.trailer))
	for _, f := range fs {
		if f.id == fOther && !forbiddenTrailer(f.name) {
			keep = append(keep, d.trailer[f.start:f.end]...)
		}
	}
	d.trailer = keep
	return nil
}

// forbiddenTrailer names headers that would change how the message is routed, framed or read (RFC 9110 section 6.5.1).
func forbiddenTrailer(name []byte) bool {
	for _, s := range [...]string{"authorization", "cache-control", "content-encoding", "content-range", "content-type", "max-forwards",
		"pragma", "range", "trailer", "www-authenticate", "proxy-authenticate", "proxy-authorization", "forwarded", "location", "vary",
		"retry-after", "age", "expires", "warning", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"} {
		if equalFold(name, s) {
			return true
		}
	}
	return false
}

// reset makes the decoder ready for another body; its memory stays.
func (d *chunkDecoder) reset() { *d = chunkDecoder{trailer: d.trailer[:0]} }

// chunkRoom is the space that appendChunkHead needs in front of the data, chunkTail that behind them.
const (
	chunkRoom = 12
	chunkTail = 2
)

// frameChunk frames the n bytes of data at buf[chunkRoom:] as one chunk and returns the framed bytes of buf.
func frameChunk(buf []byte, n int) []byte {
	p := chunkRoom - 2
	buf[p], buf[p+1] = '\r', '\n'
	for x := n; x > 0; x >>= 4 {
		p--
		buf[p] = "0123456789abcdef"[x&15]
	}
	e := chunkRoom + n
	buf[e], buf[e+1] = '\r', '\n'
	return buf[p : e+2]
}
