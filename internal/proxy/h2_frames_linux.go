//go:build linux && (amd64 || arm64)

package proxy

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// consume handles the frames at hand.
func (c *h2conn) consume() {
	for c.preface < len(http2.ClientPreface) && c.r < c.w {
		if c.in.b[c.r] != http2.ClientPreface[c.preface] {
			c.goAway(http2.ErrCodeProtocol)
			return
		}
		c.preface++
		c.r++
	}
	for c.w-c.r >= 9 && !c.over {
		h := c.in.b[c.r:c.w]
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if n > h2MaxFrame {
			c.goAway(http2.ErrCodeFrameSize)
			return
		}
		if len(h) < 9+n {
			return
		}
		c.r += 9 + n
		typ, flags, id := http2.FrameType(h[3]), http2.Flags(h[4]), binary.BigEndian.Uint32(h[5:])&(1<<31-1)
		code := c.frame(typ, flags, id, h[9:9+n])
		if code == http2.ErrCodeNo && c.resets > maxResets {
			code = http2.ErrCodeEnhanceYourCalm
		}
		if code != http2.ErrCodeNo {
			c.goAway(code)
			return
		}
	}
	if c.over {
		c.r = c.w
	}
}

// frame handles one frame. An error is the connection's.
func (c *h2conn) frame(typ http2.FrameType, flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	if !c.settled && (typ != http2.FrameSettings || flags&http2.FlagSettingsAck != 0) {
		return http2.ErrCodeProtocol
	}
	if c.block.id != 0 && (typ != http2.FrameContinuation || id != c.block.id) {
		return http2.ErrCodeProtocol
	}
	if c.idleFloor++; c.idleFloor > maxIdleFrames {
		return http2.ErrCodeEnhanceYourCalm
	}
	switch typ {
	case http2.FrameData:
		return c.onData(flags, id, b)
	case http2.FrameHeaders:
		return c.onHeaders(flags, id, b)
	case http2.FrameContinuation:
		if c.block.id == 0 {
			return http2.ErrCodeProtocol
		}
		return c.fragment(b, flags&http2.FlagContinuationEndHeaders != 0)
	case http2.FrameSettings:
		return c.onSettings(flags, id, b)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(id, b)
	case http2.FrameRSTStream:
		switch {
		case len(b) != 4:
			return http2.ErrCodeFrameSize
		case id == 0 || id > c.lastID || id&1 == 0:
			return http2.ErrCodeProtocol
		}
		if s := c.streams[id]; s != nil {
			c.noteReset()
			c.drop(s)
			s.left()
		}
	case http2.FramePing:
		switch {
		case len(b) != 8:
			return http2.ErrCodeFrameSize
		case id != 0:
			return http2.ErrCodeProtocol
		}
		if flags&http2.FlagPingAck == 0 {
			c.out = append(appendFrame(c.out, http2.FramePing, http2.FlagPingAck, 0, 8), b...)
		}
	case http2.FramePriority:
		switch {
		case id == 0:
			return http2.ErrCodeProtocol
		case len(b) != 5:
			c.resetID(id, http2.ErrCodeFrameSize)
		case binary.BigEndian.Uint32(b)&(1<<31-1) == id:
			c.resetID(id, http2.ErrCodeProtocol)
		}
	case http2.FrameGoAway:
		switch {
		case id != 0:
			return http2.ErrCodeProtocol
		case len(b) < 8:
			return http2.ErrCodeFrameSize
		}
		c.goAway(http2.ErrCodeNo)
	case http2.FramePushPromise:
		return http2.ErrCodeProtocol
	}
	return http2.ErrCodeNo
}

func (c *h2conn) onSettings(flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	switch {
	case id != 0:
		return http2.ErrCodeProtocol
	case flags&http2.FlagSettingsAck != 0 && len(b) > 0, len(b)%6 != 0:
		return http2.ErrCodeFrameSize
	case flags&http2.FlagSettingsAck != 0:
		return http2.ErrCodeNo
	}
	c.settled = true
	c.idleFloor += 20 // dearer than other frames
	for ; len(b) > 0; b = b[6:] {
		v := binary.BigEndian.Uint32(b[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(b)) {
		case http2.SettingHeaderTableSize:
			c.resize = true
		case http2.SettingEnablePush:
			if v > 1 {
				return http2.ErrCodeProtocol
			}
		case http2.SettingInitialWindowSize:
			if v > maxWindow {
				return http2.ErrCodeFlowControl
			}
			more := int64(v) - c.peerWindow
			c.peerWindow = int64(v)
			for _, s := range c.streams {
				if s.sendWindow += more; s.sendWindow > maxWindow {
					return http2.ErrCodeFlowControl
				}
			}
			c.unblock()
		case http2.SettingMaxFrameSize:
			if v < h2MaxFrame || v >= 1<<24 {
				return http2.ErrCodeProtocol
			}
		}
	}
	c.out = appendFrame(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	return http2.ErrCodeNo
}

func (c *h2conn) onWindowUpdate(id uint32, b []byte) http2.ErrCode {
	if len(b) != 4 {
		return http2.ErrCodeFrameSize
	}
	n := int64(binary.BigEndian.Uint32(b) & (1<<31 - 1))
	if id == 0 {
		if n == 0 {
			return http2.ErrCodeProtocol
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return http2.ErrCodeFlowControl
		}
		c.unblock()
		return http2.ErrCodeNo
	}
	if id > c.lastID || id&1 == 0 {
		return http2.ErrCodeProtocol
	}
	s := c.streams[id]
	switch {
	case s == nil:
	case n == 0:
		c.reset(s, http2.ErrCodeProtocol)
	case s.sendWindow+n > maxWindow:
		c.reset(s, http2.ErrCodeFlowControl)
	default:
		s.sendWindow += n
		s.signal()
	}
	return http2.ErrCodeNo
}

// unpad takes the padding off a frame.
func unpad(flags http2.Flags, b []byte) ([]byte, bool) {
	if flags&http2.FlagDataPadded == 0 {
		return b, true
	}
	if len(b) == 0 || int(b[0]) >= len(b) {
		return nil, false
	}
	return b[1 : len(b)-int(b[0])], true
}

func (c *h2conn) onData(flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	if id == 0 || id > c.lastID && !c.goingAway || id&1 == 0 {
		return http2.ErrCodeProtocol
	}
	n := int64(len(b)) // padding counts
	if c.recvWindow -= n; c.recvWindow < 0 {
		return http2.ErrCodeFlowControl
	}
	b, ok := unpad(flags, b)
	if !ok {
		return http2.ErrCodeProtocol
	}
	end := flags&http2.FlagDataEndStream != 0
	s := c.streams[id]
	if s == nil || s.ended {
		c.credit(n)
		if s == nil && (c.wasReset(id) || id > c.lastID) {
			return http2.ErrCodeNo
		}
		if s != nil {
			c.reset(s, http2.ErrCodeStreamClosed)
			return http2.ErrCodeNo
		}
		return http2.ErrCodeStreamClosed
	}
	if s.recvWindow -= n; s.recvWindow < 0 {
		c.credit(n)
		c.reset(s, http2.ErrCodeFlowControl)
		return http2.ErrCodeNo
	}
	if len(b) > 0 || end {
		c.idleFloor = 0
	}
	c.lastUse = c.p.ticks.Load()
	s.got += int64(len(b))
	if s.declared >= 0 && (s.got > s.declared || end && s.got != s.declared) {
		c.credit(n)
		c.reset(s, http2.ErrCodeProtocol)
		return http2.ErrCodeNo
	}
	if pad := n - int64(len(b)); pad > 0 {
		c.credit(pad)
		s.credit(pad)
	}
	s.take(b, end)
	return http2.ErrCodeNo
}

// credit gives bytes of the connection's window back, not too often.
func (c *h2conn) credit(n int64) {
	if c.recvDebt += n; c.recvDebt >= connWindow/2 {
		c.windowUpdate(0, c.recvDebt)
		c.recvWindow += c.recvDebt
		c.recvDebt = 0
	}
}

func (c *h2conn) onHeaders(flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	if id&1 == 0 {
		return http2.ErrCodeProtocol
	}
	b, ok := unpad(flags, b)
	if !ok {
		return http2.ErrCodeProtocol
	}
	c.block = headerBlock{id: id, end: flags&http2.FlagHeadersEndStream != 0}
	if flags&http2.FlagHeadersPriority != 0 {
		if len(b) < 5 {
			return http2.ErrCodeFrameSize
		}
		if binary.BigEndian.Uint32(b)&(1<<31-1) == id {
			c.block.drop = http2.ErrCodeProtocol
		}
		b = b[5:]
	}
	s := c.streams[id]
	switch {
	case s != nil && s.ended:
		c.block.s, c.block.drop = s, http2.ErrCodeStreamClosed
	case s != nil:
		c.block.s = s
		if !c.block.end {
			c.block.drop = http2.ErrCodeProtocol // trailers end the stream
		}
	case id <= c.lastID:
		closed, reset := c.wasClosed(id)
		switch {
		case !closed:
			return http2.ErrCodeProtocol
		case !reset:
			return http2.ErrCodeStreamClosed
		}
		c.block.ignore = true
	case c.goingAway:
		c.block.ignore = true
	default:
		c.lastID = id
		if len(c.streams) >= maxStreams || c.busy >= 2*maxStreams {
			if c.block.drop == 0 {
				c.block.drop = http2.ErrCodeRefusedStream
			}
		}
	}
	c.head.reset(s != nil)
	c.dec.SetEmitEnabled(!c.block.ignore && c.block.drop == 0)
	return c.fragment(b, flags&http2.FlagHeadersEndHeaders != 0)
}

// noteExcess logs a request whose head is beyond what a connection may send: there is no answer to it.
func (c *h2conn) noteExcess() {
	x := &exchange{}
	x.reset(c.p, c.ln.table.Load(), &request{}, &c.peer, nil, nil)
	x.refusedFor(&statusError{reason: "HeaderTooLarge"}, c.p.opt.Clock())
	x.account(anyShard, x.p.opt.Clock())
}

// fragment takes a piece of the header block.
func (c *h2conn) fragment(b []byte, end bool) http2.ErrCode {
	k := &c.block
	k.frames++
	if k.size += len(b); k.size > maxHeaderBlock || k.frames > maxContinuations {
		c.noteExcess()
		return http2.ErrCodeEnhanceYourCalm
	}
	if _, err := c.dec.Write(b); err != nil {
		return http2.ErrCodeCompression
	}
	if !end {
		return http2.ErrCodeNo
	}
	if c.dec.Close() != nil {
		return http2.ErrCodeCompression
	}
	id := k.id
	k.id = 0
	switch {
	case k.ignore:
		return http2.ErrCodeNo
	case k.drop != 0:
		if k.s != nil {
			c.reset(k.s, k.drop)
		} else {
			c.resetID(id, k.drop)
		}
		return http2.ErrCodeNo
	case k.s != nil:
		if !c.head.check(true) || c.head.large || k.s.declared >= 0 && k.s.got != k.s.declared {
			c.reset(k.s, http2.ErrCodeProtocol)
			return http2.ErrCodeNo
		}
		k.s.tr = c.head.appendTrailer(k.s.tr[:0])
		c.idleFloor = 0
		k.s.take(nil, true)
		return http2.ErrCodeNo
	}
	if !c.head.check(k.end) {
		c.resetID(id, http2.ErrCodeProtocol)
		return http2.ErrCodeNo
	}
	c.begin(id, k.size, k.end)
	return http2.ErrCodeNo
}
