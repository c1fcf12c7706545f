// The image operators where the backend suite does not look: every type, layouts, old versions, shapes without
// elements, coordinates that are no numbers.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ImageOperatorTests {
  private static let types: [DataType] = [
    .float32, .float64, .float16, .bfloat16, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64, .bool,
    .complex64, .complex128, .string,
  ]

  /// 0, 1, 0, … in any type.
  private func alternating(_ type: DataType, _ shape: Shape) throws -> Tensor {
    let numbers = (0..<shape.elementCount).map { Float($0 % 2) }
    switch type {
    case .string: return Tensor(strings: numbers.map { $0 == 0 ? "a" : "b" }, shape: shape)
    case .complex64: return Tensor(numbers.map { Complex64($0, 2 * $0) }, shape: shape)
    case .complex128: return Tensor(numbers.map { Complex128(Double($0), 2 * Double($0)) }, shape: shape)
    default: return try cast(Tensor(numbers, shape: shape), to: type)
    }
  }

  @Test(arguments: types) func nearest(_ type: DataType) throws {
    let x = try alternating(type, [1, 2, 3])
    var run = OperatorRun(
      "Resize",
      attributes: [("coordinate_transformation_mode", .string("asymmetric")), ("nearest_mode", .string("floor"))])
    run.constantInputs = [2]
    let y = try run(x, nil, Tensor([Float(1), 2, 1]))[0]
    let twice = try OperatorRun("Gather", attributes: [("axis", .int(1))])(x, Tensor([0, 0, 1, 1]))[0]
    #expect(y.shape == [1, 4, 3] && y.strings == twice.strings && bytes(y) == bytes(twice))
  }

  @Test(arguments: types.filter { $0 != .string }) func interpolated(_ type: DataType) throws {
    // An axis that keeps its ends: 0 and 1 stay what they are, with what lies between them in the middle.
    let x = try alternating(type, [2, 2])
    for mode in ["linear", "cubic"] {
      let run = OperatorRun(
        "Resize", attributes: [("mode", .string(mode)), ("coordinate_transformation_mode", .string("align_corners"))])
      let y = try run(x, nil, nil, Tensor([2, 3]))[0]
      let ends = try OperatorRun("Gather", attributes: [("axis", .int(1))])(y, Tensor([0, 2]))[0]
      #expect(y.dataType == type && bytes(ends) == bytes(x), "\(mode)")
    }
  }

  @Test func stringsAreNotInterpolated() {
    #expect(throws: (any Error).self) {
      try OperatorRun("Resize", attributes: [("mode", .string("linear"))])(
        Tensor(strings: ["a"], shape: [1]), nil, Tensor([Float(2)]))
    }
  }

  @Test func nothingToResize() throws {
    let linear = OperatorRun("Resize", attributes: [("mode", .string("linear"))])
    for run in [OperatorRun("Resize"), linear] {
      #expect(try run(sampleTensor([2, 1], seed: 0), nil, Tensor([Float(2), 0.5]))[0].shape == [4, 0])
      #expect(try run(sampleTensor([0, 3], seed: 0), nil, Tensor([Float(1), 2]))[0].shape == [0, 6])
      #expect(throws: (any Error).self) { try run(sampleTensor([0, 3], seed: 0), nil, nil, Tensor([1, 3])) }
      let x = sampleTensor([3, 4], seed: 0)
      #expect(bytes(try run(x, nil, Tensor([Float(1), 1]))[0]) == bytes(x))
      #expect(throws: (any Error).self) { try run(x, nil, Tensor([Float(1), -1])) }
      #expect(throws: (any Error).self) { try run(x, nil, Tensor([Float(1)])) }
      #expect(throws: (any Error).self) { try run(x) }
    }
  }

  /// The same images with channels last give the same result, with the scales in that order.
  @Test(arguments: ["nearest", "linear", "cubic"]) func bothLayouts(_ mode: String) throws {
    let x = sampleTensor([2, 3, 5, 7], seed: 3)
    let run = OperatorRun("Resize", attributes: [("mode", .string(mode))])
    let planar = try run(x, nil, Tensor([Float(1), 1, 1.7, 0.6]))[0]
    let last = try run(channelsLast(x), nil, Tensor([Float(1), 1.7, 0.6, 1]))[0]
    expectClose(try channelsFirst(last), planar, tolerance: 1e-6, mode)
  }

  @Test func oldVersions() throws {
    let x = sampleTensor([1, 1, 2, 2], seed: 1)
    var resize = OperatorRun("Resize")
    resize.version = 10
    let expected = try resize(x, Tensor([Float(1), 1, 2, 3]))[0]
    #expect(expected.shape == [1, 1, 4, 6])
    var upsample = OperatorRun("Upsample")
    upsample.version = 9
    #expect(bytes(try upsample(x, Tensor([Float(1), 1, 2, 3]))[0]) == bytes(expected))
    upsample.version = 7
    upsample.attributes["scales"] = .floats([1, 1, 2, 3])
    #expect(bytes(try upsample(x)[0]) == bytes(expected))
    upsample.version = 1
    upsample.attributes = Attributes([
      ("height_scale", .float(2)), ("width_scale", .float(3)), ("mode", .string("bilinear")),
    ])
    #expect(try upsample(x)[0].shape == [1, 1, 4, 6])
  }

  /// Points far outside, infinite or no numbers; every padding.
  @Test(arguments: ["nearest", "linear", "cubic"]) func wildPoints(_ mode: String) throws {
    let x = sampleTensor([1, 1, 3, 3], seed: 1)
    let grid = Tensor([Float.nan, 0, .infinity, -.infinity, 1e30, -1e30, 1e9, 5], shape: [1, 2, 2, 2])
    for padding in ["zeros", "border", "reflection"] {
      let run = OperatorRun("GridSample", attributes: [("mode", .string(mode)), ("padding_mode", .string(padding))])
      let y = try run(x, grid)[0]
      #expect(y.shape == [1, 1, 2, 2] && y.elements(as: Float.self)?.contains { $0.isNaN } == false, "\(padding)")
    }
  }

  @Test(arguments: types) func sampling(_ type: DataType) throws {
    let x = try alternating(type, [1, 1, 2, 2])
    // The centres of the four elements.
    let grid = Tensor([Float(-0.5), -0.5, 0.5, -0.5, -0.5, 0.5, 0.5, 0.5], shape: [1, 2, 2, 2])
    for gridType in [DataType.float32, .float64, .float16] {
      for mode in type == .string ? ["nearest"] : ["nearest", "linear", "cubic"] {
        let y = try OperatorRun("GridSample", attributes: [("mode", .string(mode))])(x, cast(grid, to: gridType))[0]
        #expect(y.dataType == type && y.strings == x.strings && bytes(y) == bytes(x), "\(mode) \(gridType)")
      }
    }
    let outside = try OperatorRun("GridSample", attributes: [("mode", .string("nearest"))])(
      x, Tensor([Float(9), 9], shape: [1, 1, 1, 2]))[0]
    #expect(outside.strings == (type == .string ? [""] : nil) && bytes(outside).allSatisfy { $0 == 0 })
  }

  @Test(arguments: [DataType.float32, .float64, .float16, .bfloat16]) func identityGrid(_ type: DataType) throws {
    let theta = try cast(Tensor([Float(1), 0, 0, 0, 1, 0], shape: [1, 2, 3]), to: type)
    let x = sampleTensor([1, 2, 5, 4], seed: 5)
    for corners in [0, 1] {
      let grid = try OperatorRun("AffineGrid", attributes: [("align_corners", .int(corners))])(
        theta, Tensor([1, 2, 5, 4]))[0]
      let y = try OperatorRun("GridSample", attributes: [("align_corners", .int(corners))])(
        x, cast(grid, to: .float32))[0]
      // Half a unit of the grid, of five points between −1 and 1, moves a sample by less than that part of a step of 2.
      let unit: Float = type == .bfloat16 ? 0x1p-9 : type == .float16 ? 0x1p-12 : 0x1p-22
      expectClose(y, x, tolerance: 2 * 2 * 2.5 * unit, "\(type)")
    }
    let single = try OperatorRun("AffineGrid", attributes: [("align_corners", .int(1))])(theta, Tensor([1, 1, 1, 1]))[0]
    #expect(try cast(single, to: .float32).elements(as: Float.self) == [-1, -1])
  }

  @Test func regionsOfInterest() throws {
    let x = sampleTensor([2, 1, 4, 4], seed: 1)
    for mode in ["avg", "max"] {
      let run = OperatorRun(
        "RoiAlign", attributes: [("mode", .string(mode)), ("output_height", .int(2)), ("output_width", .int(2))])
      for wild in [Float.nan, .infinity, 1e30, -1e30] {
        let y = try run(x, Tensor([0, 0, wild, 2, wild, 0, 3, 3], shape: [2, 4]), Tensor([0, 1]))[0]
        #expect(y.shape == [2, 1, 2, 2])
      }
      for image in [-1, 2, Int.max] {
        #expect(throws: (any Error).self) { try run(x, Tensor([Float(0), 0, 2, 2], shape: [1, 4]), Tensor([image])) }
      }
    }
    // A constant image gives the constant, wherever the region lies inside.
    let constant = Tensor([Float](repeating: 3, count: 64), shape: [1, 1, 8, 8])
    for type in [DataType.float32, .float64, .float16, .bfloat16] {
      let y = try OperatorRun("RoiAlign", attributes: [("output_height", .int(3))])(
        cast(constant, to: type), cast(Tensor([Float(1), 1, 6.5, 5.25], shape: [1, 4]), to: type), Tensor([0]))[0]
      expectClose(
        try cast(y, to: .float32), Tensor([Float(3), 3, 3], shape: [1, 1, 3, 1]), tolerance: 2e-6, "\(type)")
    }
  }

  @Test func suppression() throws {
    let run = OperatorRun("NonMaxSuppression")
    let boxes = Tensor([Float(0), 0, 1, 1, 0, 0, 1, 1, 5, 5, 6, 6], shape: [1, 3, 4])
    let scores = Tensor([Float.nan, 0.5, 0.9], shape: [1, 1, 3])
    let selected = try run(boxes, scores, Tensor([9]), Tensor([Float(0.5)]))[0]
    #expect(selected.elements(as: Int.self) == [0, 0, 2, 0, 0, 1])
    #expect(try run(boxes, scores)[0].shape == [0, 3])
    #expect(
      try run(Tensor(zeros: .float32, shape: [1, 0, 4]), Tensor(zeros: .float32, shape: [1, 2, 0]), Tensor([3]))[0]
        .shape == [0, 3])
  }

  @Test(arguments: types) func centres(_ type: DataType) throws {
    let x = try alternating(type, [3, 4])
    let back = try OperatorRun("CenterCropPad")(
      try OperatorRun("CenterCropPad")(x, Tensor([8, 9]))[0], Tensor([Int32(3), 4]))[0]
    #expect(back.strings == x.strings && bytes(back) == bytes(x))
    let padded = try OperatorRun("CenterCropPad", attributes: [("axes", .ints([-1]))])(x, Tensor([6]))[0]
    #expect(padded.shape == [3, 6] && padded.strings?[0] == (type == .string ? "" : nil))
    #expect(try OperatorRun("CenterCropPad")(x, Tensor([0, 4]))[0].shape == [0, 4])
    #expect(try OperatorRun("CenterCropPad")(alternating(type, []), Tensor([Int]()))[0].shape == [])
  }

  @Test(arguments: types.filter { $0 != .string }) func columns(_ type: DataType) throws {
    // Blocks of one element in their order are the image; overlapping ones add up.
    let x = try alternating(type, [1, 2, 6])
    let y = try OperatorRun("Col2Im")(x, Tensor([2, 3]), Tensor([1, 1]))[0]
    #expect(y.shape == [1, 2, 2, 3] && bytes(y) == bytes(x))
    let ones = try cast(
      Tensor([Float](repeating: 1, count: 4), shape: [1, 2, 2]), to: type.isComplex ? .float32 : type)
    let sums = try OperatorRun("Col2Im")(ones, Tensor([1, 3]), Tensor([1, 2]))[0]
    #expect(try cast(sums, to: .float32).elements(as: Float.self) == (type == .bool ? [1, 1, 1] : [1, 2, 1]))
  }
}
