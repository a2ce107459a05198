package metric

import (
	"encoding/binary"
	"errors"
	"math"
	"sort"
)

// blockSeconds is the span of one block: all slots of a series in one hour.
const blockSeconds = 3600

// slot is the aggregate of the data of one series in one storage period, which starts at offset seconds into its hour.
type slot struct {
	offset               uint16
	count, sum, min, max float64
	bins                 []bin // how the values are spread, if they are not one and it is known; never changed in place
}

func (s *slot) add(o slot) {
	s.bins = mergeBins(s, &o)
	s.count += o.count
	s.sum += o.sum
	s.min = math.Min(s.min, o.min)
	s.max = math.Max(s.max, o.max)
}

// merge adds one slot to a block, which stays sorted by offset.
func merge(block []slot, s slot) []slot {
	i := sort.Search(len(block), func(i int) bool { return block[i].offset >= s.offset })
	if i < len(block) && block[i].offset == s.offset {
		block[i].add(s)
		return block
	}
	block = append(block, slot{})
	copy(block[i+1:], block[i:])
	block[i] = s
	return block
}

// The flags of an encoded slot.
const (
	flagBins   = 2 // the distribution follows
	flagSingle = 1 // one value: sum, minimum and maximum are the same and stand once, and the count is 1
)

var errBlock = errors.New("metric: a block is damaged")

// encodeBlock writes the slots in their order: flags, offset (uvarint), then one float64 for a single value, or four.
func encodeBlock(block []slot) []byte {
	out := make([]byte, 0, 12*len(block))
	f := func(v float64) { out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v)) }
	for _, s := range block {
		single := s.count == 1 && s.sum == s.min && s.sum == s.max
		var flags byte
		if single {
			flags = flagSingle
		}
		if len(s.bins) > 0 {
			flags |= flagBins
		}
		out = append(out, flags)
		out = binary.AppendUvarint(out, uint64(s.offset))
		f(s.sum)
		if !single {
			f(s.count)
			f(s.min)
			f(s.max)
		}
		if len(s.bins) > 0 {
			out = binary.AppendUvarint(out, uint64(len(s.bins)))
			at := int32(0)
			for _, b := range s.bins {
				out = binary.AppendVarint(out, int64(b.at-at))
				out = binary.AppendUvarint(out, max(1, uint64(math.Min(math.Round(b.count), 1<<53))))
				at = b.at
			}
		}
	}
	return out
}

// decodeBlock reads what encodeBlock wrote. It refuses anything else, so that a damaged file can't invent values.
func decodeBlock(b []byte) ([]slot, error) {
	var out []slot
	for len(b) > 0 {
		flags := b[0]
		if flags&^(flagSingle|flagBins) != 0 || flags == flagSingle|flagBins {
			return nil, errBlock
		}
		off, n := binary.Uvarint(b[1:])
		if n <= 0 || off >= blockSeconds || (len(out) > 0 && uint16(off) <= out[len(out)-1].offset) {
			return nil, errBlock
		}
		b = b[1+n:]
		want := 4
		if flags == flagSingle {
			want = 1
		}
		if len(b) < 8*want {
			return nil, errBlock
		}
		var v [4]float64
		for i := range want {
			v[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		}
		b = b[8*want:]
		s := slot{offset: uint16(off), sum: v[0], count: v[1], min: v[2], max: v[3]}
		if flags == flagSingle {
			s.count, s.min, s.max = 1, s.sum, s.sum
		}
		if flags&flagBins != 0 {
			var err error
			if s.bins, b, err = decodeBins(b); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

func decodeBins(b []byte) ([]bin, []byte, error) {
	many, n := binary.Uvarint(b)
	if n <= 0 || many == 0 || many > maxBins {
		return nil, nil, errBlock
	}
	b = b[n:]
	bins := make([]bin, many)
	at := int64(0)
	for i := range bins {
		d, n := binary.Varint(b)
		if n <= 0 || i > 0 && d <= 0 || d < -4*binMid || d > 4*binMid {
			return nil, nil, errBlock
		}
		at += d
		count, m := binary.Uvarint(b[n:])
		if m <= 0 || count == 0 || at < -2*binMid || at > 2*binMid {
			return nil, nil, errBlock
		}
		bins[i] = bin{int32(at), float64(count)}
		b = b[n+m:]
	}
	return bins, b, nil
}

// coarsen merges the slots into storage periods of step seconds.
func coarsen(block []slot, step uint16) []slot {
	var out []slot
	for _, s := range block {
		s.offset -= s.offset % step
		if n := len(out); n > 0 && out[n-1].offset == s.offset {
			out[n-1].add(s)
		} else {
			out = append(out, s)
		}
	}
	return out
}
