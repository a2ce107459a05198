package proxy

// frame frames the n bytes at buf[chunkRoom:], with the end of the body if it is there.
func frame(buf []byte, n int, end, chunked bool, trailer []byte) []byte {
	if !chunked {
		return buf[chunkRoom : chunkRoom+n]
	}
	var out []byte
	if n > 0 {
		out = frameChunk(buf, n)
	} else {
		out = buf[chunkRoom:chunkRoom]
	}
	if end {
		out = append(out, "0\r\n"...) // there is room for it
		if len(trailer) > 0 {
			out = append(out[:len(out):len(out)], trailer...)
		}
		out = append(out, '\r', '\n')
	}
	return out
}

// source tells how the body of the target's answer is framed.
func (x *exchange) source() bodySource {
	src := bodySource{framing: byClose, left: x.resp.length}
	switch {
	case x.resp.bodyless(x.req.noBodyRead):
		src.framing = noBody
	case x.resp.chunked:
		src.framing = byChunks
	case x.resp.length >= 0:
		src.framing = byLength
	}
	return src
}

// bodySource decodes a body as its bytes arrive.
type bodySource struct {
	framing bodyFraming
	left    int64
	dec     chunkDecoder
}

// decode decodes b in place; see chunkDecoder.decode.
func (s *bodySource) decode(b []byte) (data, used int, end bool, err error) {
	switch s.framing {
	case noBody:
		return 0, 0, true, nil
	case byLength:
		n := len(b)
		if int64(n) > s.left {
			n = int(s.left)
		}
		s.left -= int64(n)
		return n, n, s.left == 0, nil
	case byChunks:
		return s.dec.decode(b)
	}
	return len(b), len(b), false, nil
}

// begin makes the source that of another body. Its decoder's memory stays.
func (s *bodySource) begin(of bodySource) {
	s.dec.reset()
	of.dec = s.dec
	*s = of
}
