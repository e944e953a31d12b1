package layer3

import "carillon/audio/mpeg"

// granule is 576 quantised lines of one channel and how they are coded: pairs
// in three regions with a table each, then quadruples of values up to one, then
// zeros.
type granule struct {
	value    [mpeg.GranuleLines]int32
	negative [mpeg.GranuleLines]bool

	gain      int
	pairs     int // big_values
	quads     int // count1
	region0   int // region0_count
	region1   int // region1_count
	edge      [4]int
	table     [3]int
	quadTable int
	blockType int
	bits      int
}

// measure chooses regions and tables and returns how many bits they take.
func (g *granule) measure(e *Encoder) int {
	end := mpeg.GranuleLines
	for end > 1 && g.value[end-1] == 0 && g.value[end-2] == 0 {
		end -= 2
	}
	g.quads = 0
	for end > 3 && g.small(end-4) {
		end -= 4
		g.quads++
	}
	g.pairs = end / 2
	g.divide(e)
	g.bits = 0
	for i := range g.table {
		table, n := g.bestTable(e.tables, g.edge[i], g.edge[i+1])
		g.table[i] = table
		g.bits += n
	}
	a, b := g.quadBits(e.tables, huffmanQuadA), g.quadBits(e.tables, huffmanQuadB)
	g.quadTable = huffmanQuadA
	if b < a {
		g.quadTable = huffmanQuadB
	}
	g.bits += min(a, b)
	return g.bits
}

func (g *granule) small(i int) bool {
	return g.value[i] <= 1 && g.value[i+1] <= 1 && g.value[i+2] <= 1 && g.value[i+3] <= 1
}

// divide splits the pairs by scale factor bands into a third, a third and the
// rest, as far as four and three bits can say that. In windowed granules there
// are two regions, and where the first ends is not told.
func (g *granule) divide(e *Encoder) {
	const region0Max, region1Max = 15, 7
	end := 2 * g.pairs
	if g.blockType != blockLong {
		side := sideGranule{blockType: g.blockType}
		first := windowedRegion(&e.Frame, e.layouts, &side)
		g.edge = [4]int{0, min(end, first), end, end}
		return
	}
	edges := &e.layouts.edges
	bands := 0
	for bands < longBands && edges[bands] < end {
		bands++
	}
	g.region0 = min(max(bands/3-1, 0), region0Max)
	g.region1 = min(max(bands/3-1, 0), region1Max, longBands-2-g.region0)
	g.edge = [4]int{
		0,
		min(end, edges[g.region0+1]),
		min(end, edges[g.region0+g.region1+2]),
		end,
	}
}

// bestTable finds the table that codes the pairs from line i to j in the fewest
// bits.
func (g *granule) bestTable(t *layer3Tables, from, to int) (table, bits int) {
	peak := int32(0)
	for _, v := range g.value[from:to] {
		peak = max(peak, v)
	}
	candidates := tablesFor(peak)
	table, bits = candidates[0], g.pairBits(t, candidates[0], from, to)
	for _, c := range candidates[1:] {
		if c == 0 {
			break
		}
		if n := g.pairBits(t, c, from, to); n < bits {
			table, bits = c, n
		}
	}
	return table, bits
}

// tablesFor are the tables that reach the value, up to the first 0.
func tablesFor(peak int32) [3]int {
	switch {
	case peak == 0:
		return [3]int{}
	case peak == 1:
		return [3]int{1}
	case peak == 2:
		return [3]int{2, 3}
	case peak == 3:
		return [3]int{5, 6}
	case peak <= 5:
		return [3]int{7, 8, 9}
	case peak <= 7:
		return [3]int{10, 11, 12}
	case peak <= huffmanEscape:
		return [3]int{13, 15}
	}
	return [3]int{escapeTable(16, peak), escapeTable(24, peak)}
}

// escapeTable is the first of the eight tables from one on whose extra bits
// reach the value.
func escapeTable(table int, peak int32) int {
	for peak-huffmanEscape >= 1<<escapeBits(table) {
		table++
	}
	return table
}

func (g *granule) pairBits(t *layer3Tables, table, from, to int) int {
	if table == 0 {
		return 0
	}
	code, escape := t.huffman[table], escapeBits(table)
	bits := 0
	for i := from; i < to; i += 2 {
		x, y := g.value[i], g.value[i+1]
		if escape > 0 {
			if x >= huffmanEscape {
				x = huffmanEscape
				bits += escape
			}
			if y >= huffmanEscape {
				y = huffmanEscape
				bits += escape
			}
		}
		bits += int(code.bits[x<<4|y]) + sign(x) + sign(y)
	}
	return bits
}

// sign is how many bits the sign of a value takes.
func sign(v int32) int {
	if v == 0 {
		return 0
	}
	return 1
}

func (g *granule) quadBits(t *layer3Tables, table int) int {
	bits := 0
	for q := range g.quads {
		v := g.value[2*g.pairs+4*q:][:4]
		bits += int(t.huffman[table].bits[v[0]<<3|v[1]<<2|v[2]<<1|v[3]])
		bits += int(v[0] + v[1] + v[2] + v[3])
	}
	return bits
}

// write appends the code words of the lines.
func (g *granule) write(w *bitWriter, t *layer3Tables) {
	for r, table := range g.table {
		if table == 0 {
			continue
		}
		code, escape := t.huffman[table], escapeBits(table)
		for i := g.edge[r]; i < g.edge[r+1]; i += 2 {
			x, y := g.value[i], g.value[i+1]
			pair := x<<4 | y
			if escape > 0 {
				pair = min(x, huffmanEscape)<<4 | min(y, huffmanEscape)
			}
			w.put(code.word[pair], int(code.bits[pair]))
			g.writeValue(w, i, escape)
			g.writeValue(w, i+1, escape)
		}
	}
	code := t.huffman[g.quadTable]
	for q := range g.quads {
		at := 2*g.pairs + 4*q
		v := g.value[at:][:4]
		quad := v[0]<<3 | v[1]<<2 | v[2]<<1 | v[3]
		w.put(code.word[quad], int(code.bits[quad]))
		for i := range v {
			g.writeValue(w, at+i, 0)
		}
	}
}

// writeValue appends what follows the word for line i: what the value is more
// than 15, if the table has bits for that, and the sign.
func (g *granule) writeValue(w *bitWriter, i, escape int) {
	v := g.value[i]
	if escape > 0 && v >= huffmanEscape {
		w.put(uint32(v-huffmanEscape), escape)
	}
	switch {
	case v == 0:
	case g.negative[i]:
		w.put(1, 1)
	default:
		w.put(0, 1)
	}
}
