// The opcodes of pickles with their codes, and the escapes of the texts of protocol 0.

/// The opcodes of protocols 0 to 5 (pickletools.py).
enum PickleOpcode: UInt8 {
  case mark = 0x28  // (
  case emptyTuple = 0x29  // )
  case stop = 0x2E  // .
  case pop = 0x30  // 0
  case popMark = 0x31  // 1
  case dup = 0x32  // 2
  case binaryBytes = 0x42  // B
  case shortBinaryBytes = 0x43  // C
  case float = 0x46  // F
  case binaryFloat = 0x47  // G
  case int = 0x49  // I
  case binaryInt = 0x4A  // J
  case binaryInt1 = 0x4B  // K
  case long = 0x4C  // L
  case binaryInt2 = 0x4D  // M
  case none = 0x4E  // N
  case persistentID = 0x50  // P
  case binaryPersistentID = 0x51  // Q
  case reduce = 0x52  // R
  case string = 0x53  // S
  case binaryString = 0x54  // T
  case shortBinaryString = 0x55  // U
  case unicode = 0x56  // V
  case binaryUnicode = 0x58  // X
  case emptyList = 0x5D  // ]
  case append = 0x61  // a
  case build = 0x62  // b
  case global = 0x63  // c
  case dictionary = 0x64  // d
  case appends = 0x65  // e
  case get = 0x67  // g
  case binaryGet = 0x68  // h
  case inst = 0x69  // i
  case longBinaryGet = 0x6A  // j
  case list = 0x6C  // l
  case object = 0x6F  // o
  case put = 0x70  // p
  case binaryPut = 0x71  // q
  case longBinaryPut = 0x72  // r
  case setItem = 0x73  // s
  case tuple = 0x74  // t
  case setItems = 0x75  // u
  case emptyDictionary = 0x7D  // }
  case proto = 0x80
  case newObject = 0x81
  case extension1, extension2, extension4
  case tuple1, tuple2, tuple3
  case newTrue, newFalse
  case long1, long4
  case shortBinaryUnicode, binaryUnicode8, binaryBytes8
  case emptySet, addItems, frozenSet
  case newObjectEx, stackGlobal, memoize
  case frame
  case byteArray8, nextBuffer, readOnlyBuffer
}

enum PickleEscapes {
  /// The bytes of a Python 2 literal: `\n`, `\\`, `\'`, `\xHH`, `\OOO`, …
  static func bytes(_ text: ArraySlice<UInt8>, at offset: Int) throws(LoadError) -> [UInt8] {
    let simple: [UInt8: UInt8] = [
      0x5C: 0x5C, 0x27: 0x27, 0x22: 0x22, 0x61: 7, 0x62: 8, 0x66: 12, 0x6E: 10, 0x72: 13, 0x74: 9, 0x76: 11,
    ]
    var result: [UInt8] = []
    var index = text.startIndex
    while index < text.endIndex {
      let byte = text[index]
      index += 1
      guard byte == 0x5C else {
        result.append(byte)
        continue
      }
      guard index < text.endIndex else { throw .malformed("an escape should not end the text", at: offset) }
      let kind = text[index]
      if let value = simple[kind] {
        result.append(value)
        index += 1
      } else if kind == 0x78, index + 2 < text.endIndex,
        let value = UInt8(String(decoding: text[(index + 1)...(index + 2)], as: UTF8.self), radix: 16)
      {
        result.append(value)
        index += 3
      } else if (0x30...0x37).contains(kind) {
        var value = 0
        var digits = 0
        while digits < 3, index < text.endIndex, (0x30...0x37).contains(text[index]) {
          value = value * 8 + Int(text[index] - 0x30)
          index += 1
          digits += 1
        }
        result.append(UInt8(truncatingIfNeeded: value))
      } else {
        throw .malformed("the escape \\\(Character(UnicodeScalar(kind))) is not known", at: offset)
      }
    }
    return result
  }

  /// A text in which only `\uXXXX` and `\UXXXXXXXX` are escapes.
  static func unicode(_ text: [UnicodeScalar], at offset: Int) throws(LoadError) -> String {
    var result = String.UnicodeScalarView()
    var index = 0
    while index < text.count {
      let width = index + 1 < text.count && text[index] == "\\" ? ["u": 4, "U": 8][text[index + 1]] : nil
      guard let width else {
        result.append(text[index])
        index += 1
        continue
      }
      guard index + 2 + width <= text.count else { throw .malformed("an escape should not end the text", at: offset) }
      var digits = String.UnicodeScalarView()
      digits.append(contentsOf: text[(index + 2)..<(index + 2 + width)])
      guard let value = UInt32(String(digits), radix: 16) else {
        throw .malformed("an escape should have \(width) hexadecimal digits", at: offset)
      }
      result.append(UnicodeScalar(value) ?? "\u{FFFD}")
      index += 2 + width
    }
    return String(result)
  }
}
