// Makers of typed loops: from a function of one element, for scalar operands, and for half-width floats through
// float32.

import ApusGraph
import ApusTensor
import CApusKernels

extension Elementwise {
  // The result type is written out in all four: a literal in `f` must not choose another one.

  /// The loop of a function of one element to its own type.
  @inline(__always)
  static func map<T: BitwiseCopyable & Sendable>(_ f: @escaping @Sendable (T) -> T) -> UnaryLoop {
    { x, y, count in
      let x = x.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: T.self)
      for i in 0..<count { y[i] = f(x[i]) }
    }
  }

  /// The loop of a predicate of one element: bytes of 1 and 0.
  @inline(__always)
  static func test<T: BitwiseCopyable & Sendable>(_ f: @escaping @Sendable (T) -> Bool) -> UnaryLoop {
    { x, y, count in
      let x = x.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: UInt8.self)
      for i in 0..<count { y[i] = f(x[i]) ? 1 : 0 }
    }
  }

  /// The predicate (x & mask) - low <= span of the bits of elements of `width` bytes, without a sign: bytes of 1 and 0.
  static func inRange(width: Int, mask: UInt64, low: UInt64, span: UInt64) -> UnaryLoop {
    let kernels = apus_kernels().pointee
    let kernel =
      switch width {
      case 1: kernels.in_range_1
      case 2: kernels.in_range_2
      case 4: kernels.in_range_4
      default: kernels.in_range_8
      }
    return { x, y, count in kernel(count, x, y.assumingMemoryBound(to: UInt8.self), mask, low, span) }
  }

  /// The choice between a plain loop and one of a C kernel.
  static func choose(
    _ type: DataType, plain: @escaping UnaryLoop, _ vectors: UnaryLoop?
  ) throws(OperatorError) -> UnaryLoop {
    try KernelCandidate<ElementFacts, UnaryLoop>.choose(
      .elementwise, type: type, [.plain { plain }, .vectors("vectors", types: []) { vectors }])
  }

  /// The loop of a function of two elements, which both move, to their own type.
  @inline(__always)
  static func zip<T: BitwiseCopyable & Sendable>(_ f: @escaping @Sendable (T, T) -> T) -> BinaryLoop {
    { a, b, y, count in
      let a = a.assumingMemoryBound(to: T.self)
      let b = b.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: T.self)
      for i in 0..<count { y[i] = f(a[i], b[i]) }
    }
  }

  /// The loop of a predicate of two elements, which both move: bytes of 1 and 0.
  @inline(__always)
  static func test<T: BitwiseCopyable & Sendable>(_ f: @escaping @Sendable (T, T) -> Bool) -> BinaryLoop {
    { a, b, y, count in
      let a = a.assumingMemoryBound(to: T.self)
      let b = b.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: UInt8.self)
      for i in 0..<count { y[i] = f(a[i], b[i]) ? 1 : 0 }
    }
  }

  /// All three loops from the one where both operands move: a scalar is spread over a block on the stack first.
  static func spreadingScalars(_ both: @escaping BinaryLoop, widths: (a: Int, b: Int, y: Int)) -> BinaryLoops {
    let repeatA = repeatFirst(width: widths.a)
    let repeatB = repeatFirst(width: widths.b)
    return BinaryLoops(
      both: both,
      scalarB: { a, b, y, count in
        spread(b, widths.b, count, repeatB) { block, start, n in
          both(a + start &* widths.a, block, y + start &* widths.y, n)
        }
      },
      scalarA: { a, b, y, count in
        spread(a, widths.a, count, repeatA) { block, start, n in
          both(block, b + start &* widths.b, y + start &* widths.y, n)
        }
      })
  }

  /// Calls `body` for runs of elements that fit a block filled with `scalar`.
  @inline(__always)
  private static func spread(
    _ scalar: UnsafeRawPointer, _ width: Int, _ count: Int, _ fill: (UnsafeMutableRawPointer, Int) -> Void,
    _ body: (_ block: UnsafeRawPointer, _ start: Int, _ count: Int) -> Void
  ) {
    withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 64) { bytes in
      guard let block = bytes.baseAddress else { return }
      let capacity = 1024 / width
      block.copyMemory(from: scalar, byteCount: width)
      fill(block, min(capacity, count))
      var start = 0
      while start < count {
        let n = min(capacity, count &- start)
        body(UnsafeRawPointer(block), start, n)
        start &+= n
      }
    }
  }

  /// An element of 16 bytes that may lie at any address at which its halves may lie: that of a vector may not.
  struct SixteenBytes: Sendable, BitwiseCopyable {
    var low, high: UInt64
  }

  /// Repeats the first element over `count` elements of `width` bytes: 1, 2, 4, 8 or 16.
  static func repeatFirst(width: Int) -> @Sendable (_ y: UnsafeMutableRawPointer, _ count: Int) -> Void {
    func filler<T: BitwiseCopyable & Sendable>(_ type: T.Type) -> @Sendable (UnsafeMutableRawPointer, Int) -> Void {
      { y, count in
        let y = y.assumingMemoryBound(to: T.self)
        let first = y[0]
        for i in 0..<count { y[i] = first }
      }
    }
    switch width {
    case 1: return filler(UInt8.self)
    case 2: return filler(UInt16.self)
    case 4: return filler(UInt32.self)
    case 8: return filler(UInt64.self)
    default: return filler(SixteenBytes.self)
    }
  }
}

// MARK: - Through float32

extension Elementwise {
  /// The loop of a narrow float type from the float32 loop, both ways by blocks.
  static func narrow(_ codec: FloatCodec, width: Int, _ loop: @escaping UnaryLoop) -> UnaryLoop {
    { x, y, count in
      forEachBlock(count) { block, start, n in
        codec.load(x, start, block, n)
        loop(block, block, n)
        codec.store(block, y, start, n)
      }
    }
  }

  /// The loop from a narrow float type to something else, from the float32 loop to that.
  static func narrowInput(_ codec: FloatCodec, outputWidth: Int, _ loop: @escaping UnaryLoop) -> UnaryLoop {
    { x, y, count in
      forEachBlock(count) { block, start, n in
        codec.load(x, start, block, n)
        loop(block, y + start &* outputWidth, n)
      }
    }
  }

  /// The loops of a narrow float type from those of float32. `outputWidth` nil: the result is of the narrow type; else
  /// the float32 loops write results of that width themselves.
  static func narrow(_ codec: FloatCodec, outputWidth: Int? = nil, _ loops: BinaryLoops) -> BinaryLoops {
    @Sendable func finish(_ block: UnsafeMutablePointer<Float>, _ y: UnsafeMutableRawPointer, _ start: Int, _ n: Int) {
      codec.store(block, y, start, n)
    }
    /// Where the float32 loop writes: over its first moving operand, or straight to the output.
    @Sendable func target(
      _ block: UnsafeMutablePointer<Float>, _ y: UnsafeMutableRawPointer, _ start: Int
    ) -> UnsafeMutableRawPointer {
      if let outputWidth { y + start &* outputWidth } else { UnsafeMutableRawPointer(block) }
    }
    let writesNarrow = outputWidth == nil
    return BinaryLoops(
      both: { a, b, y, count in
        forEachBlock(count) { x, start, n in
          withUnsafeTemporaryAllocation(of: Float.self, capacity: blockLength) { second in
            guard let z = second.baseAddress else { return }
            codec.load(a, start, x, n)
            codec.load(b, start, z, n)
            loops.both(x, z, target(x, y, start), n)
            if writesNarrow { finish(x, y, start, n) }
          }
        }
      },
      scalarB: { a, b, y, count in
        var scalar: Float = 0
        codec.load(b, 0, &scalar, 1)
        withUnsafePointer(to: scalar) { scalar in
          forEachBlock(count) { x, start, n in
            codec.load(a, start, x, n)
            loops.scalarB(x, scalar, target(x, y, start), n)
            if writesNarrow { finish(x, y, start, n) }
          }
        }
      },
      scalarA: { a, b, y, count in
        var scalar: Float = 0
        codec.load(a, 0, &scalar, 1)
        withUnsafePointer(to: scalar) { scalar in
          forEachBlock(count) { x, start, n in
            codec.load(b, start, x, n)
            loops.scalarA(scalar, x, target(x, y, start), n)
            if writesNarrow { finish(x, y, start, n) }
          }
        }
      })
  }

  /// Calls `body` with a block of float32 on the stack for every run of at most `blockLength` elements.
  @inline(__always)
  static func forEachBlock(
    _ count: Int, _ body: (_ block: UnsafeMutablePointer<Float>, _ start: Int, _ count: Int) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: blockLength) { block in
      guard let block = block.baseAddress else { return }
      var start = 0
      while start < count {
        let n = min(blockLength, count &- start)
        body(block, start, n)
        start &+= n
      }
    }
  }
}
