package layer3

import (
	"math"

	"carillon/audio/mpeg"
)

// The shape of layer III: 32 subbands of 18 lines each make a granule.
const (
	subbands      = 32
	subbandLines  = 18
	windowSamples = 512
	longBands     = 22 // scale factor bands of a long block
)

// layer3Tables are the constants of layer III that encoding and decoding share.
type layer3Tables struct {
	// window is the prototype of the polyphase filter as the synthesis uses
	// it (ISO 11172-3 table B.3); the analysis takes a 32nd of it.
	window [windowSamples]float64
	// long[type][k][i] is what sample i of a block (of other types than the
	// short one) has to do with line k: the cosine of the transform under the
	// window. short is the same for each of three short blocks.
	long  [4][subbandLines][2 * subbandLines]float64
	short [subbandLines / 3][2 * subbandLines / 3]float64
	// aliasS and aliasA turn the lines at the border of two subbands.
	aliasS, aliasA [8]float64
	huffman        [huffmanTables]*huffmanCode
}

func newLayer3Tables() *layer3Tables {
	t := &layer3Tables{window: synthesisWindow()}
	for block := range t.long {
		for k := range subbandLines {
			for i := range 2 * subbandLines {
				t.long[block][k][i] = blockWindow(block, i) * math.Cos(math.Pi/72*float64((2*i+1+18)*(2*k+1)))
			}
		}
	}
	for k := range t.short {
		for i := range t.short[k] {
			t.short[k][i] = blockWindow(blockShort, i) * math.Cos(math.Pi/24*float64((2*i+1+6)*(2*k+1)))
		}
	}
	for i, c := range aliasCoefficients() {
		t.aliasS[i] = 1 / math.Sqrt(1+c*c)
		t.aliasA[i] = c / math.Sqrt(1+c*c)
	}
	for n := range huffmanTables {
		if from := huffmanCodesOf(n); from != n {
			t.huffman[n] = t.huffman[from]
			continue
		}
		t.huffman[n] = newHuffmanCode(n)
	}
	return t
}

// blockWindow is the window of a block of a type at sample i: of the 36 of a long
// block or the 12 of a short one (ISO 11172-3 2.4.3.4.10.3).
func blockWindow(block, i int) float64 {
	const samples = 2 * subbandLines
	switch {
	case block == blockStop:
		return blockWindow(blockStart, samples-1-i)
	case block == blockShort:
		return math.Sin(math.Pi / 12 * (float64(i) + 0.5))
	case block == blockLong || i < samples/2:
		return math.Sin(math.Pi / 36 * (float64(i) + 0.5))
	case i >= 30:
		return 0
	case i >= 24:
		return math.Sin(math.Pi / 12 * (float64(i) - 18 + 0.5))
	}
	return 1
}

// aliasCoefficients are those of ISO 11172-3 table B.9.
func aliasCoefficients() [8]float64 {
	return [8]float64{-0.6, -0.535, -0.33, -0.185, -0.095, -0.041, -0.0142, -0.0037}
}

// bandEdges are the first lines of the scale factor bands of a long block, and
// the end of the last (ISO 11172-3 table B.8, 13818-3 table B.2; the bands of
// 8 kHz are those that all encoders agreed on).
func bandEdges(v mpeg.Version, rate int) [longBands + 1]int {
	widths := [longBands]int{6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 38, 46, 52, 60, 68, 58, 54}
	switch {
	case rate == 8000:
		widths = [longBands]int{12, 12, 12, 12, 12, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 76, 90, 2, 2, 2, 2, 2}
	case rate == 24000:
		widths = [longBands]int{6, 6, 6, 6, 6, 6, 8, 10, 12, 14, 16, 18, 22, 26, 32, 38, 46, 54, 62, 70, 76, 36}
	case v == mpeg.V1 && rate == 44100:
		widths = [longBands]int{4, 4, 4, 4, 4, 4, 6, 6, 8, 8, 10, 12, 16, 20, 24, 28, 34, 42, 50, 54, 76, 158}
	case v == mpeg.V1 && rate == 48000:
		widths = [longBands]int{4, 4, 4, 4, 4, 4, 6, 6, 6, 8, 10, 12, 16, 18, 22, 28, 34, 40, 46, 54, 54, 192}
	case v == mpeg.V1:
		widths = [longBands]int{4, 4, 4, 4, 4, 4, 6, 6, 8, 10, 12, 16, 20, 24, 30, 38, 46, 56, 68, 84, 102, 26}
	}
	var edges [longBands + 1]int
	for i, w := range widths {
		edges[i+1] = edges[i] + w
	}
	return edges
}

// synthesisWindow unfolds the first half of the window, in units of 2^-16; the
// second mirrors it with its sign changed but at every 64th.
func synthesisWindow() [windowSamples]float64 {
	half := [windowSamples/2 + 1]int32{
		0, -1, -1, -1, -1, -1, -1, -2,
		-2, -2, -2, -3, -3, -4, -4, -5,
		-5, -6, -7, -7, -8, -9, -10, -11,
		-13, -14, -16, -17, -19, -21, -24, -26,
		-29, -31, -35, -38, -41, -45, -49, -53,
		-58, -63, -68, -73, -79, -85, -91, -97,
		-104, -111, -117, -125, -132, -139, -147, -154,
		-161, -169, -176, -183, -190, -196, -202, -208,
		213, 218, 222, 225, 227, 228, 228, 227,
		224, 221, 215, 208, 200, 189, 177, 163,
		146, 127, 106, 83, 57, 29, -2, -36,
		-72, -111, -153, -197, -244, -294, -347, -401,
		-459, -519, -581, -645, -711, -779, -848, -919,
		-991, -1064, -1137, -1210, -1283, -1356, -1428, -1498,
		-1567, -1634, -1698, -1759, -1817, -1870, -1919, -1962,
		-2001, -2032, -2057, -2075, -2085, -2087, -2080, -2063,
		2037, 2000, 1952, 1893, 1822, 1739, 1644, 1535,
		1414, 1280, 1131, 970, 794, 605, 402, 185,
		-45, -288, -545, -814, -1095, -1388, -1692, -2006,
		-2330, -2663, -3004, -3351, -3705, -4063, -4425, -4788,
		-5153, -5517, -5879, -6237, -6589, -6935, -7271, -7597,
		-7910, -8209, -8491, -8755, -8998, -9219, -9416, -9585,
		-9727, -9838, -9916, -9959, -9966, -9935, -9863, -9750,
		-9592, -9389, -9139, -8840, -8492, -8092, -7640, -7134,
		6574, 5959, 5288, 4561, 3776, 2935, 2037, 1082,
		70, -998, -2122, -3300, -4533, -5818, -7154, -8540,
		-9975, -11455, -12980, -14548, -16155, -17799, -19478, -21189,
		-22929, -24694, -26482, -28289, -30112, -31947, -33791, -35640,
		-37489, -39336, -41176, -43006, -44821, -46617, -48390, -50137,
		-51853, -53534, -55178, -56778, -58333, -59838, -61289, -62684,
		-64019, -65290, -66494, -67629, -68692, -69679, -70590, -71420,
		-72169, -72835, -73415, -73908, -74313, -74630, -74856, -74992,
		75038,
	}
	var window [windowSamples]float64
	for i, n := range &half {
		v := float64(n) / (1 << 16)
		window[i] = v
		if i%64 != 0 {
			v = -v
		}
		if i > 0 {
			window[windowSamples-i] = v
		}
	}
	return window
}
