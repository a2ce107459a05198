package record

import "encoding/binary"

// Seal appends b to dst as records.
func (s *State) Seal(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), MaxPlain)
		dst = s.seal(s.prepare(dst), typeData, b[:n])
		b = b[n:]
	}
	return dst
}

// Sealed returns how many bytes Seal makes of n, at most.
func (s *State) Sealed(n int) int {
	return Head + n + (n+MaxPlain-1)/MaxPlain*(headerLen+nonceLen+tagLen+1)
}

// SealAt makes a record of the n bytes at b[Head:Head+n], in place, and returns it: a part of b. n is at most MaxPlain, and b has
// at least Tail bytes behind the data.
func (s *State) SealAt(b []byte, n int) []byte {
	pre := s.prepare(b[: 0 : Head-headerLen]) // TLS 1.3's fits exactly
	at := Head - headerLen
	if s.explicit() {
		at -= nonceLen
	}
	rec := b[at : Head+n : Head+n+Tail]
	s.close(rec, rec[Head-at:], typeData)
	total := len(rec) + tagLen
	if !s.su.tls12 {
		total++
	}
	s.out.seq++
	return b[at-len(pre) : at+total]
}

// Alert appends an alert. CloseNotify says that nothing more will be sent.
func (s *State) Alert(dst []byte, desc byte) []byte {
	level := byte(fatal)
	if desc == CloseNotify || desc == userCanceled {
		level = warning
	}
	return s.seal(dst, typeAlert, []byte{level, desc})
}

// prepare appends the KeyUpdate that must go out before data.
func (s *State) prepare(dst []byte) []byte {
	if s.su.tls12 {
		return dst
	}
	if s.out.seq >= updateAfter {
		s.owed.Store(true)
	}
	if s.owed.CompareAndSwap(true, false) {
		dst = s.seal(dst, typeHandshake, []byte{keyUpdate, 0, 0, 1, updateNot})
		s.out.update(s.su)
	}
	return dst
}

// seal appends one record.
func (s *State) seal(dst []byte, typ byte, b []byte) []byte {
	at := len(dst)
	dst = append(dst, typ, 3, 3, 0, 0)
	if s.explicit() {
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	from := len(dst)
	dst = append(dst, b...)
	end := len(dst) + tagLen
	if !s.su.tls12 {
		end++
	}
	for cap(dst) < end {
		dst = append(dst[:cap(dst)], 0)
	}
	dst = dst[:from+len(b)]
	s.close(dst[at:], dst[from:], typ)
	s.out.seq++
	return dst[:end]
}

// close encrypts data, the end of rec, in place: rec has room for its tag behind it, and for the header before.
func (s *State) close(rec, data []byte, typ byte) {
	h := &s.out
	if h.aead == nil {
		h.aead = h.cipher(s.su)
	}
	n := len(data)
	rec[0], rec[1], rec[2] = typ, 3, 3
	if s.su.tls12 {
		total := n + tagLen
		if s.explicit() {
			binary.BigEndian.PutUint64(h.iv[4:], h.seq)
			copy(rec[headerLen:], h.iv[4:])
			total += nonceLen
		} else {
			h.turn()
			defer h.turn()
		}
		rec[3], rec[4] = byte(total>>8), byte(total)
		h.aead.Seal(data[:0], h.iv[:], data, h.aad12(typ, n))
		return
	}
	total := n + 1 + tagLen
	rec[0], rec[3], rec[4] = typeData, byte(total>>8), byte(total)
	data = append(data, typ)
	h.turn()
	h.aead.Seal(data[:0], h.iv[:], data, rec[:headerLen])
	h.turn()
}

// SealMessage appends handshake messages, as records.
func (s *State) SealMessage(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), MaxPlain)
		dst = s.seal(dst, typeHandshake, b[:n])
		b = b[n:]
	}
	return dst
}
