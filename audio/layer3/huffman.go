package layer3

// huffmanWords is a code of layer III (ISO 11172-3 table B.7) in the order of
// its words, which is all there is to tell: the first word is zeros, and each
// is the one before plus one, with its length changed. Three characters stand
// for a word: its length in base 36, and the two values (or the four bits of a
// quadruple) in hexadecimal. It is empty for a table that does not exist.
func huffmanWords(table int) string {
	switch table {
	case 1:
		return "311301210100"
	case 2:
		return "622602512521520311301310100"
	case 3:
		return "622602512521520310211201200"
	case 5:
		return "833823732631713703730722612621602620311301310100"
	case 6:
		return "733703623632630513531522502412421420301211310300"
	case 7:
		return "a55a45a54a53935944925952815851905934850943933824842714741740804823832803713731730722612521602620" +
			"411301310100"
	case 8:
		return "b55b54a45953a35a44925952905815851934943950933824842814741804840823832813831803830622602620412421" +
			"211301310200"
	case 9:
		return "955945835853954905844825852815751734743850804724742733740614641623632513531603630522502412421420" +
			"311301310300"
	case 10:
		return "b77b67b76b57b75b66a47a74a56a65a37a73a46b55b54a63927972a64a07970962a45a35906a53a44817871936926a25" +
			"a52915951a34a43816861860905950924942933904814841840823832803713731730722612621602620411301310100"
	case 11:
		return "a77a67a76a75a66a47a74b57b55a56a65937973946a45a54a35a53827872964907771817870836863860944925952905" +
			"815762826806716761851834850943933824842814841804840723732613631703730622521412502520311301310200"
	case 12:
		return "a77a67976957975966947974965856837973955827872846864817871907970836863845854844906905726762761816" +
			"860835853825852715751734743850804724742714633641623632740703630513531522412421502520400311301310"
	}
	return wideHuffmanWords(table)
}

// wideHuffmanWords are the tables of 256 words, two of which are shared by eight
// numbers that differ in how many bits follow a value of 15, and those of
// quadruples.
func wideHuffmanWords(table int) string {
	switch table {
	case 13:
		return "jfejfcifdhedgffgefgdfgeegcfgdegbfgfbgcegdchafhe9fecfddgfagcdfbefebf9fff9feafbdfdbf8fff8fccgaeg9e" +
			"f8eg7fg7eef7edafadfbcfcbff6e6fee8e5fe9ded9ef5ee7eacebbe4fef4fcafe6ef3d3fe8ded8d2fdf2e6ee9cd0fec9" +
			"e5edabe7ded7d4eec8ed6d3edb9e9beaac1fcf1cf0dbade5de4d8cd6dde3ce2d2ed0ec1ece1de0d5ddd5d7cdc7d4dd8b" +
			"db8dd4d9ada9d6ccc6c3ddd3d7bc2dcd2c1dcb7d5cdc5d99d7acc3da7d97c4bbd1c0dcd0c8aca8c4ccc4c6bcb6b3cb2c" +
			"bc2b5bcb5c89b1cbc1c98c0cbc0cb4c6aca6c79b3bbb3c88c5ab2bca5c69ba4c78c87b94c77c76ab2a1bab1b0bbb0b96" +
			"b4ab3aba3b59b95a2aaa2a1aaa1b0ab68aa0b86b49a93b39b58b85b67a29a92b57b75a38a83b66b47b74b56b65b73919" +
			"991a09a90a48a84a72b46b64928982918a37a27917971a55a07a70a36a63a45a54a26a62a35881908980916961906960" +
			"a53a44925952905815851934943950924942933814741804840823832713731703730722612621602620411401310100"
	case 15:
		return "dffdefdfeddfceedfddcfdfcddededdbfcfbdcedeccddcafcfacbecebccdcdcc9fcf9ceacbdcdbc8fcf8cccc9ece9c7f" +
			"cf7cadcdacbcc6fdaed0fbcbbf6c8ece8c5fc9dbf5b7ebe7bacbcabbbcd9c8db4fbf4b3fbf3bd8be6b2fbf2c6ecf0b1f" +
			"bf1b9cbc9b5ebabbbabe5b7dbd7b4ebe4b8cbc8b3eb6dbd6be3b9bbb9b2ebaabe2b1ebe1c0ece0b5dbd5b7cbc7b4db8b" +
			"ad4bb8b9aba9b6cbc6b3dad3ad2b2db0da1da7bab7ad1b5cbd0ac5a8aaa8a4cac4a6bab6b99b0ca3cac3a7aaa7aa6bc0" +
			"b0b9c2a2ca5bab5a1ca89a98ac1a4bab4a6aa3ba799b3a97a88a2ba5a9b2aa5a1b9b1ab0a69a96a4aaa4a78a87a3a9a3" +
			"95999592a9a291a9a1a0aaa0968986949994939993a77a09958985929967976992891919990948984957975938983966" +
			"947828882818881974908980956965937973946827872864817855871907970836863845854826862816906960835761" +
			"853844725752715751805850734743724742733641714704623632740703613631630522512521502520311401410300"
	case 16, 17, 18, 19, 20, 21, 22, 23:
		return "befbfebdfbfdbcfbfcbbfbfbaafbfab9fbf9bf8a8fa7faf7a6faf68ffa5faf594f9f49f39f0a3fgcehechddfdefe9gea" +
			"gd9eeefedfebebeecdfdcfdbeaeeccfadfdaf7efacecafc9f7de5edbd8f292f90f81f8f1d9eebcecbe8eee8e9dee7ebb" +
			"e8ded8e6ede6d9ceabebaee5ed7d4eee4e8cdc8d3ed6ded6e9beb9eaade1dd4eb8ea9d7beb7ed0ce3d0ede0d5ddd5d7c" +
			"dc7d4dd8bd9ad6cdc6d3dd5cdc5c0dd8ada8d99d4cdb6d7ac3cd5bd89c1ccc0d98d79be2c2ec1ecd3c2dcd2cd1c3bd97" +
			"d88b1dcc4c6bcc3ca7b2ccc2cb5cc1c0cc4bcb4c6aca6bb3c5aca5b2bbb2b1bbb1c0bcb0c69c96c4aca4c78c87ba3c3a" +
			"c59b2ac95c68ba1c86c77b94c49c57b67aa2a1ab0aba0b39b93b58b85a29a92b76b09a19a91b90b48b84b75b38b83b66" +
			"b28a82b47b74a18a81a80b08b56a37a73b65b46a27a72b64b55a07917971a70a36a63a45a54a26962916961a06a60953" +
			"a35a44925952851915905934943950924942933814841904940823832713731803830722612621602620411401310100"
	case 24, 25, 26, 27, 28, 29, 30, 31:
		return "8ef8fe8df8fd8cf8fc8bf8fb7fa8af89f7f97f888f87f7f776f7f675f7f574f7f473f7f372f7f27f181f8f090fbeebde" +
			"bedbcebecbddbbebebbcdbdcbaebeabbdbdbbccb9ebe9badbdabbcbcbb8ebe8b9dbd9b7ebe7bac4ffbcabbbb8dbd8c0e" +
			"ce0b0dae6b6eb9cac9a5eabaae5babb7dad7ae4a8cac8b4eb2ea3ea6dad6ae3a9bab9aaaae2a1eae1a5dad5a7cac7a4d" +
			"a8bab8ad4a9aaa9a6cac6a3dad3a2dad2a1da7bab7ad1a5cac5a8aaa8a99a4cac4a6bab6bd0b0ca3cac3a7aaa7a2cac2" +
			"a5bab5a1ca89a98ac1a4bbc0b0ba3bbb0b0aa1a9b4a6aaa6a79a97ba0b09a909b3988a2ba5a9b2aa5a1bab1a699969a4" +
			"a4aa7898793a9a395999592a9a29a1968986977949994939993958985929967976992919991948984957975938983966" +
			"928982918947974981a08a80956965917a07a70873937927872846864855871836863845854826862816861906960835" +
			"853844825852815905950751834843724742733714741804840723732613631703730622512521602620411401410400"
	case huffmanQuadA:
		return "60b60f60d60e60760550950650350a50c402401404408100"
	case huffmanQuadB:
		return "40f40e40d40c40b40a409408407406405404403402401400"
	}
	return ""
}

// The tables of quadruples, behind the 32 of pairs.
const (
	huffmanQuadA  = 32
	huffmanQuadB  = 33
	huffmanTables = 34
)

// huffmanEscape is the value behind which more bits follow, in the tables that
// have such.
const huffmanEscape = 15

// escapeBits is how many bits follow a value of huffmanEscape.
func escapeBits(table int) int {
	const from16, from24 = "\x01\x02\x03\x04\x06\x08\x0a\x0d", "\x04\x05\x06\x07\x08\x09\x0b\x0d"
	switch {
	case table >= 16 && table < 24:
		return int(from16[table-16])
	case table >= 24 && table < 32:
		return int(from24[table-24])
	}
	return 0
}

// huffmanCode is a table by what a word stands for: x<<4 | y, or four bits.
type huffmanCode struct {
	word [256]uint32
	bits [256]uint8
}

// newHuffmanCode numbers the words of a table through. It is nil for one that
// does not exist.
func newHuffmanCode(table int) *huffmanCode {
	words := huffmanWords(table)
	if words == "" {
		return nil
	}
	code := &huffmanCode{}
	next, last := uint32(0), 0
	for ; words != ""; words = words[3:] {
		n := digit(words[0])
		if n > last {
			next <<= n - last
		} else {
			next >>= last - n
		}
		pair := digit(words[1])<<4 | digit(words[2])
		code.word[pair], code.bits[pair] = next, uint8(n)
		next, last = next+1, n
	}
	return code
}

func digit(c byte) int {
	if c >= 'a' {
		return int(c-'a') + 10
	}
	return int(c - '0')
}

// huffmanCodesOf is the table whose codes table n uses: some tables differ from
// another only in how many bits follow a code (ISO 11172-3 Annex B, table B.7).
func huffmanCodesOf(n int) int {
	switch {
	case n > 16 && n < 24:
		return 16
	case n > 24 && n < 32:
		return 24
	}
	return n
}
