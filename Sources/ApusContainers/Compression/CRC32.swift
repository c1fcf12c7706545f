// The checksum of zip and gzip files (CRC-32 of ISO 3309), by zlib.

import CZlib

/// A checksum of bytes that come piece by piece.
struct CRC32: Sendable {
  private var state: UInt = 0

  var value: UInt32 { UInt32(truncatingIfNeeded: state) }

  mutating func update(_ bytes: borrowing Span<UInt8>) {
    state = bytes.withUnsafeBufferPointer { buffer in
      // zlib begins anew when it is given no address.
      buffer.baseAddress.map { crc32_z(state, $0, buffer.count) } ?? state
    }
  }
}
