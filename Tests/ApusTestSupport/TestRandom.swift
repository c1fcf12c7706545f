// Numbers for tests that draw their cases.

/// Numbers that look random and are the same every time.
package struct TestRandom {
  private var state: UInt64

  package init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }

  package mutating func below(_ bound: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return Int(state >> 33) % bound
  }
}

/// How many of `count` drawn cases a test runs: all of them, in debug builds some, since loops take many times as long
/// there.
package func drawnCases(_ count: Int) -> Int {
  #if DEBUG
    max(1, count / 10)
  #else
    count
  #endif
}
