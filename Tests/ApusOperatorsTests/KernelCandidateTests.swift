// Every candidate of every choice among kernels, on every machine that this one can stand for, against the plain one.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import CApusKernels
import Foundation
import Testing

@Suite struct KernelCandidateTests {
  @Test(arguments: CandidateCase.all.indices) func candidatesAgree(index: Int) throws {
    var survey = CandidateSurvey()
    for seed in 1...2 { try survey.check(CandidateCase.all[index](seed)) }
    #expect(survey.problems.isEmpty)
  }

  /// Each choice has a case, and each of its candidates is taken by one.
  @Test func allAreReached() throws {
    var survey = CandidateSurvey()
    try survey.checkAll()
    #expect(survey.problems.isEmpty)
    #expect(survey.unreached.isEmpty)
  }

  @Test(arguments: CandidateCase.loops.indices) func loopsAreCandidates(index: Int) throws {
    for seed in 1...2 {
      let one = CandidateCase.loops[index](seed)
      #expect(try one.run(.plain).choices.map(\.taken) == ["plain"], "\(one.name)")
      #expect(try one.run(.cheapest).choices.map(\.taken) == ["vectors"], "\(one.name)")
    }
  }

  /// The same on lesser machines. Forcing one changes the whole process, hence one of its own.
  @Test func everyMachine() async {
    await #expect(processExitsWith: .success) {
      for machine in 0..<apus_machine_count() {
        apus_force_machine(apus_machine_at(machine))
        var survey = CandidateSurvey()
        do { try survey.checkAll() } catch { exit(2) }
        if survey.problems.isEmpty && survey.unreached.isEmpty { continue }
        print("\(String(cString: apus_kernels().pointee.name)): \(survey.problems) \(survey.unreached)")
        exit(1)
      }
    }
  }

  // MARK: - The choice itself

  private struct Size: KernelFacts {
    let elementType: DataType?
    var layout = ImageLayout.planar
    var features: MachineFeatures = []
    let count: Int
  }

  private static let candidates: [KernelCandidate<Size, String>] = [
    KernelCandidate("plain") {
      .cost(.loops(operations: Double($0.count)))
    } make: { _ in
      "plain"
    },
    KernelCandidate("large", types: [.float32], layouts: [.planar]) {
      .cost(.vectors(operations: Double($0.count), bytes: 3000))
    } make: {
      $0.count == 7777 ? nil : "large"
    },
    KernelCandidate("small", features: MachineFeatures(rawValue: 2)) {
      $0.count > 50 ? .refused("too many") : .cost(.vectors(operations: 1))
    } make: { _ in
      "small"
    },
  ]

  private func choose(
    _ count: Int, _ type: DataType? = .float32, layout: ImageLayout = .planar, features: UInt32 = 0
  ) throws -> String {
    let size = Size(elementType: type, layout: layout, features: MachineFeatures(rawValue: features), count: count)
    return try KernelCandidate.choose(Self.candidates, at: "test", for: size)
  }

  @Test func theCheapestThatAppliesIsTaken() throws {
    #expect(try choose(10) == "plain")
    #expect(try choose(1000) == "large")
    #expect(try choose(10, features: 3) == "small")
    #expect(try choose(1000, features: 3) == "large")
    #expect(try choose(1000, .float64) == "plain")
    #expect(try choose(1000, nil) == "plain")
    #expect(try choose(1000, layout: .channelsLast) == "plain")
    // What cannot be made after all.
    #expect(try choose(7777) == "plain")
  }

  @Test func aSelectionIsFollowedWhereItApplies() throws {
    func choose(_ selection: KernelSelection, _ count: Int, _ type: DataType = .float32) throws -> String {
      try KernelSelection.$current.withValue(selection) { try self.choose(count, type, features: 2) }
    }
    #expect(try choose(.plain, 10) == "plain")
    #expect(try choose(.named("large"), 1) == "large")
    #expect(try choose(.named("large"), 1000, .float64) == "plain")
    #expect(try choose(.named("large"), 7777) == "plain")
    #expect(try choose(.named("plain"), 1000) == "plain")
    #expect(try choose(.named("other"), 1000) == "large")
    #expect(try choose(.named("other"), 10) == "small")
  }

  @Test func choicesAreNoted() throws {
    let choices = KernelChoices()
    _ = try choices.noting { () throws in try choose(7777) }
    let choice = try #require(choices.all.first)
    #expect(choices.all.count == 1 && choice.point == "test" && choice.taken == "plain")
    #expect(choice.opinions.map(\.candidate) == ["plain", "large", "small"])
    #expect(choice.opinions[0].appraisal == .cost(.loops(operations: 7777)))
    #expect(choice.opinions[1].appraisal == .refused("not for these sizes"))
    #expect(choice.opinions[2].appraisal == .refused("the machine lacks instructions that it needs"))
    #expect(KernelChoices.current == nil)
  }

  /// A selection reaches the threads that prepare a model.
  @Test func selectionsReachOtherThreads() throws {
    var run = OperatorRun("MatMul")
    run.threads = 3
    let choices = KernelChoices()
    _ = try KernelScope(selection: .plain, choices: choices).run {
      () throws in try run(sampleTensor([3, 5], seed: 1), sampleTensor([5, 4], seed: 2))
    }
    #expect(choices.all.map(\.taken) == ["plain"])
  }
}

/// One operator on one set of inputs.
struct CandidateCase {
  var name: String
  var domain = ""
  var attributes: [(String, AttributeValue)] = []
  var inputs: [Tensor?]
  var constants: Set<Int> = []
  var outputs = 1
  /// Relative where numbers are above 1.
  var tolerance = 1e-4

  /// By seed.
  static let all: [@Sendable (Int) -> CandidateCase] = matrices + images + rows + loops + bytes

  private static func random(_ shape: Shape, _ seed: Int) -> Tensor { sampleTensor(shape, seed: seed) }

  private static func codes(_ shape: Shape, _ seed: Int, signed: Bool) -> Tensor {
    var dice = Dice(seed)
    let codes = (0..<shape.elementCount).map { _ in UInt8(dice.roll(0...255)) }
    return signed ? Tensor(codes.map { Int8(bitPattern: $0) }, shape: shape) : Tensor(codes, shape: shape)
  }

  private static func halves(_ shape: Shape, _ seed: Int) -> Tensor {
    let floats = random(shape, seed).elements(as: Float.self) ?? []
    return seed % 2 == 0
      ? Tensor(floats.map { Float16($0) }, shape: shape) : Tensor(floats.map { BFloat16($0) }, shape: shape)
  }

  private static func doubles(_ shape: Shape, _ seed: Int) -> Tensor {
    Tensor((random(shape, seed).elements(as: Float.self) ?? []).map { Double($0) }, shape: shape)
  }

  private static func half(_ value: Float, _ seed: Int) -> Tensor {
    seed % 2 == 0 ? Tensor(scalar: Float16(value)) : Tensor(scalar: BFloat16(value))
  }

  private static let matrices: [@Sendable (Int) -> CandidateCase] = [
    { CandidateCase(name: "MatMul", inputs: [random([3, 7, 19], $0), random([19, 33], $0 + 1)], constants: [1]) },
    { CandidateCase(name: "MatMul", inputs: [random([2, 5, 19], $0), random([2, 19, 3], $0 + 1)]) },
    { CandidateCase(name: "Gemm", inputs: [random([7, 19], $0), random([19, 33], $0 + 1), random([33], $0 + 2)]) },
    {
      CandidateCase(
        name: "Gemm", domain: "apus", attributes: [("activation", .string("tanh"))],
        inputs: [random([7, 19], $0), random([19, 33], $0 + 1), random([33], $0 + 2)], constants: [1])
    },
    {
      CandidateCase(
        name: "Gemm", domain: "apus", attributes: [("transB", .int($0 % 2))],
        inputs: [random([7, 19], $0), halves($0 % 2 == 0 ? [19, 33] : [33, 19], $0 + 1), random([33], $0 + 2)],
        constants: [1])
    },
    {
      CandidateCase(
        name: "Einsum", attributes: [("equation", .string("bij,bjk->bik"))],
        inputs: [random([2, 5, 19], $0), random([2, 19, 17], $0 + 1)])
    },
    {
      CandidateCase(
        name: "Attention",
        inputs: [random([1, 2, 9, 8], $0), random([1, 2, 11, 8], $0 + 1), random([1, 2, 11, 8], $0)])
    },
    {
      CandidateCase(
        name: "LSTM", attributes: [("hidden_size", .int(9))],
        inputs: [random([4, 3, 5], $0), random([1, 36, 5], $0 + 1), random([1, 36, 9], $0 + 2)],
        constants: [1, 2], outputs: 3)
    },
    {
      fewBits(rows: 3, zeros: $0 % 2 == 0 ? codes([21, 2], $0 + 2, signed: false) : random([21, 3], $0 + 2), seed: $0)
    },
    { fewBits(rows: 40, zeros: nil, seed: $0) },
    tableOfBits,
    { experts(rows: 5, seed: $0) },
    { expertsOfFewBits(rows: 5, seed: $0) },
    { expertsOfFewBits(rows: 40, seed: $0) },
  ]

  private static func fewBits(rows: Int, zeros: Tensor?, seed: Int) -> CandidateCase {
    CandidateCase(
      name: "MatMulNBits", domain: "com.microsoft",
      attributes: [("K", .int(43)), ("N", .int(21)), ("block_size", .int(16))],
      inputs: [
        random([rows, 43], seed), codes([21, 3, 8], seed + 1, signed: false), random([21, 3], seed), zeros, nil,
        random([21], seed),
      ], constants: [1, 2, 3], tolerance: 0)
  }

  private static func tableOfBits(_ seed: Int) -> CandidateCase {
    CandidateCase(
      name: "MatMulBnb4", domain: "com.microsoft",
      attributes: [
        ("K", .int(48)), ("N", .int(21)), ("block_size", .int(16)), ("quant_type", .int(seed % 2)),
      ],
      inputs: [random([seed % 3 * 9 + 1, 48], seed), codes([504, 1], seed + 1, signed: false), random([63], seed)],
      constants: [1, 2], tolerance: 0)
  }

  private static func experts(rows: Int, seed: Int) -> CandidateCase {
    CandidateCase(
      name: "MoE", domain: "com.microsoft", attributes: [("k", .int(2)), ("activation_type", .string("silu"))],
      inputs: [
        random([rows, 12], seed), random([rows, 3], seed + 1), random([3, 37, 12], seed + 2), random([3, 37], seed),
        random([3, 12, 37], seed + 3),
      ], constants: [2, 4], tolerance: 0)
  }

  private static func expertsOfFewBits(rows: Int, seed: Int) -> CandidateCase {
    CandidateCase(
      name: "QMoE", domain: "com.microsoft", attributes: [("k", .int(2)), ("activation_type", .string("relu"))],
      inputs: [
        random([rows, 16], seed), random([rows, 3], seed + 1), codes([3, 24, 8], seed + 2, signed: false),
        random([3, 24], seed), nil, codes([3, 16, 12], seed + 3, signed: false), random([3, 16], seed + 4),
      ], constants: [2, 3, 5, 6], tolerance: 0)
  }

  private static func convolution(
    _ name: String, _ x: Tensor, _ w: Tensor, group: Int = 1, strides: [Int] = [2, 1], constant: Bool,
    domain: String = ""
  ) -> CandidateCase {
    CandidateCase(
      name: name, domain: domain, attributes: [("group", .int(group)), ("strides", .ints(strides))], inputs: [x, w],
      constants: constant ? [1] : [])
  }

  private static let pool: [(String, AttributeValue)] = [
    ("kernel_shape", .ints([3, 2])), ("strides", .ints([2, 1])), ("pads", .ints([1, 0, 1, 1])),
  ]

  private static let images: [@Sendable (Int) -> CandidateCase] = [
    { convolution("Conv", random([2, 3, 11, 9], $0), random([5, 3, 3, 2], $0 + 1), constant: $0 % 2 == 0) },
    { convolution("Conv", random([2, 9, 11, 9], $0), random([20, 9, 3, 3], $0 + 1), constant: true) },
    {
      convolution("Conv", random([2, 9, 11, 9], $0), random([20, 9, 3, 3], $0 + 1), strides: [1, 1], constant: true)
    },
    {
      convolution("Conv", random([1, 19, 11, 9], $0), random([19, 1, 3, 3], $0 + 1), group: 19, constant: $0 % 2 == 0)
    },
    {
      let groups = 1 + $0 % 2 * 2
      return convolution(
        "Conv", doubles([2, 6, 11, 9], $0), doubles([9, 6 / groups, 3, 3], $0 + 1), group: groups, constant: false)
    },
    { convolution("Conv", random([1, 6, 11, 9], $0), random([9, 2, 3, 3], $0 + 1), group: 3, constant: false) },
    {
      convolution(
        "Conv", random([2, 11, 9, 3], $0), random([5, 3, 3, 2], $0 + 1), constant: $0 % 2 == 0, domain: "apus")
    },
    {
      CandidateCase(
        name: "Conv", domain: "apus",
        attributes: [("group", .int(3)), ("activation", .string("tanh")), ("pads", .ints([1, 1, 1, 1]))],
        inputs: [
          random([1, 5, 9, 6], $0), random([9, 2, 3, 3], $0 + 1), random([9], $0 + 2), random([1, 5, 9, 9], $0),
        ],
        constants: $0 % 2 == 0 ? [1] : [])
    },
    { convolution("ConvTranspose", random([2, 6, 5, 7], $0), random([6, 4, 3, 3], $0 + 1), constant: true) },
    {
      convolution(
        "ConvTranspose", random([2, 5, 7, 6], $0), random([6, 4, 3, 3], $0 + 1), group: 2, constant: true,
        domain: "apus")
    },
    {
      CandidateCase(
        name: "DeformConv",
        attributes: [("group", .int(2)), ("offset_group", .int(3)), ("pads", .ints([1, 0, 1, 2]))],
        inputs: [
          random([2, 6, 7, 9], $0), random([4, 3, 3, 2], $0 + 1), random([2, 36, 7, 10], $0 + 2),
          random([4], $0 + 3),
          $0 % 2 == 0 ? random([2, 18, 7, 10], $0 + 4) : nil,
        ])
    },
    { CandidateCase(name: "MaxPool", attributes: pool, inputs: [random([2, 3, 11, 9], $0)], tolerance: 0) },
    {
      CandidateCase(
        name: $0 % 2 == 0 ? "MaxPool" : "AveragePool",
        attributes: [("kernel_shape", .ints([3, 2])), ("strides", .ints([2, $0]))],
        inputs: [random([2, 3, 11, 29], $0)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "MaxPool", attributes: pool + [("storage_order", .int($0 % 2))], inputs: [random([2, 3, 11, 9], $0)],
        outputs: 2, tolerance: 0)
    },
    { CandidateCase(name: "AveragePool", attributes: pool, inputs: [random([2, 3, 11, 9], $0)]) },
    {
      CandidateCase(
        name: $0 % 2 == 0 ? "MaxPool" : "AveragePool", attributes: pool, inputs: [doubles([2, 3, 11, 9], $0)],
        tolerance: 0)
    },
    { CandidateCase(name: "GlobalMaxPool", inputs: [doubles([2, 3, 11, 9], $0)], tolerance: 0) },
    {
      CandidateCase(
        name: "MaxPool", domain: "apus", attributes: pool, inputs: [random([2, 11, 9, 21], $0)], tolerance: 0)
    },
    { CandidateCase(name: "AveragePool", domain: "apus", attributes: pool, inputs: [random([2, 11, 9, 21], $0)]) },
    {
      CandidateCase(
        name: "Resize", attributes: [("mode", .string($0 % 2 == 0 ? "linear" : "cubic"))],
        inputs: [random([1, 3, 11, 29], $0), nil, nil, Tensor([1, 3, $0 % 2 == 0 ? 23 : 5, 53])], constants: [3])
    },
    {
      CandidateCase(
        name: "GridSample",
        attributes: [("mode", .string($0 % 2 == 0 ? "linear" : "cubic")), ("align_corners", .int($0 % 2))],
        inputs: [random([2, 3, 7, 9], $0), random([2, 5, 17, 2], $0 + 1)])
    },
    {
      CandidateCase(
        name: "RoiAlign",
        attributes: [
          ("output_height", .int(3)), ("output_width", .int(4)), ("sampling_ratio", .int($0 % 2 * 2)),
          ("spatial_scale", .float(0.5)),
        ],
        inputs: [
          random([2, 9, 11, 9], $0), Tensor([0, 0, 9, 8, 3, -6, 31, 5, 4, 7, 2, 1] as [Float], shape: [3, 4]),
          Tensor([1, 0, 1]),
        ])
    },
    { CandidateCase(name: "GlobalAveragePool", inputs: [random([2, 3, 11, 9], $0)]) },
    { CandidateCase(name: "GlobalMaxPool", inputs: [random([2, 3, 11, 9], $0)], tolerance: 0) },
    { CandidateCase(name: "LRN", attributes: [("size", .int(3))], inputs: [random([2, 5, 4, 3], $0)]) },
    { seed in
      CandidateCase(
        name: "GroupNormalization", attributes: [("num_groups", .int(2))],
        inputs: [random([2, 6, 5, 3], seed), random([6], seed + 1), random([6], seed + 2)])
    },
  ]

  private static let rows: [@Sendable (Int) -> CandidateCase] = [
    { CandidateCase(name: "Softmax", inputs: [random([5, 37], $0)]) },
    { CandidateCase(name: "LogSoftmax", inputs: [random([5, 37], $0)]) },
    {
      CandidateCase(
        name: "LayerNormalization", inputs: [random([5, 37], $0), random([37], $0 + 1), random([37], $0 + 2)])
    },
    { CandidateCase(name: "RMSNormalization", inputs: [random([5, 37], $0), random([37], $0 + 1)]) },
    {
      CandidateCase(
        name: "LayerNormalization", inputs: [halves([5, 37], $0), halves([37], $0), halves([37], $0)], outputs: 3,
        tolerance: 0.02)
    },
    { CandidateCase(name: "RMSNormalization", inputs: [halves([5, 37], $0), halves([37], $0)], tolerance: 0.02) },
    { CandidateCase(name: "LpNormalization", attributes: [("p", .int(1 + $0 % 2))], inputs: [random([5, 37], $0)]) },
    { CandidateCase(name: "ReduceSum", inputs: [random([5, 37], $0), Tensor([1])], constants: [1]) },
    { CandidateCase(name: "ReduceMax", inputs: [random([5, 1, 7], $0), Tensor([1])], constants: [1], tolerance: 0) },
    { CandidateCase(name: "ReduceMin", inputs: [codes([5, 77], $0, signed: true), Tensor([1])], constants: [1]) },
    { CandidateCase(name: "Softmax", attributes: [("axis", .int(1))], inputs: [random([3, 21, 19], $0)]) },
    { CandidateCase(name: "LpNormalization", attributes: [("axis", .int(1))], inputs: [random([3, 21, 19], $0)]) },
    {
      CandidateCase(name: "Hardmax", attributes: [("axis", .int(1))], inputs: [random([3, 21, 19], $0)], tolerance: 0)
    },
    { seed in
      CandidateCase(
        name: "BatchNormalization",
        inputs: [random([2, 6, 5, 3], seed)] + (1...3).map { random([6], seed + $0) } + [
          Tensor([Float](repeating: 2, count: 6))
        ])
    },
    { seed in
      CandidateCase(
        name: "BatchNormalization", domain: "apus", attributes: [("activation", .string("relu"))],
        inputs: [random([2, 5, 3, 21], seed)] + (1...3).map { random([21], seed + $0) } + [
          Tensor([Float](repeating: 2, count: 21))
        ])
    },
    { CandidateCase(name: "Hardmax", inputs: [random([5, 37], $0)], tolerance: 0) },
    {
      CandidateCase(name: "ArgMax", attributes: [("axis", .int(1))], inputs: [random([3, 21, 19], $0)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "ArgMin", attributes: [("axis", .int(1)), ("select_last_index", .int($0 % 2))],
        inputs: [codes([5, 77], $0, signed: false)], tolerance: 0)
    },
    {
      CandidateCase(
        name: $0 % 2 == 0 ? "ArgMax" : "ArgMin", attributes: [("axis", .int($0 % 2))],
        inputs: [halves([101, 300], $0)],
        tolerance: 0)
    },
    { CandidateCase(name: "Transpose", inputs: [random([19, 37], $0)], tolerance: 0) },
  ]

  /// Element by element, with one choice each.
  static let loops: [@Sendable (Int) -> CandidateCase] = [
    { CandidateCase(name: "Tanh", inputs: [random([333], $0)]) },
    { CandidateCase(name: "Add", inputs: [random([7, 33], $0), random([33], $0 + 1)], tolerance: 0) },
    { CandidateCase(name: "Less", inputs: [random([7, 33, 5], $0), random([7, 1, 5], $0 + 1)], tolerance: 0) },
    { CandidateCase(name: "Acos", inputs: [random([333], $0)]) },
    { CandidateCase(name: "IsNaN", inputs: [random([333], $0)], tolerance: 0) },
    { CandidateCase(name: "Cast", attributes: [("to", .int(10))], inputs: [random([333], $0)], tolerance: 0) },
    { CandidateCase(name: "PRelu", inputs: [random([7, 33], $0), Tensor(scalar: 0.3 as Float)], tolerance: 0) },
    {
      let bounds = [-0.3, 0.4].map { Tensor(scalar: $0 as Float) }
      return CandidateCase(name: "Clip", inputs: [random([7, 33], $0)] + bounds, tolerance: 0)
    },
    {
      CandidateCase(
        name: "QuantizeLinear",
        inputs: [random([7, 33], $0), Tensor(scalar: 0.007 as Float), codes([], $0, signed: $0 % 2 == 0)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "QuantizeLinear",
        inputs: [halves([7, 33], $0), half(0.03, $0), codes([], $0, signed: $0 % 2 == 0)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "QuantizeLinear",
        attributes: [("output_dtype", .int($0 % 2 == 0 ? 22 : 17)), ("block_size", .int(11)), ("axis", .int($0 % 2))],
        inputs: [random([11, 33], $0), random($0 % 2 == 0 ? [1, 33] : [11, 3], $0 + 1)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "DequantizeLinear", inputs: [codes([5, 37], $0, signed: true), Tensor(scalar: 0.3 as Float)],
        tolerance: 1e-6)
    },
    {
      CandidateCase(
        name: "DequantizeLinear",
        inputs: [codes([37, 5], $0, signed: $0 % 2 == 0), halves([5], $0), codes([5], $0 + 1, signed: $0 % 2 == 0)],
        tolerance: 0)
    },
    { CandidateCase(name: "Cast", attributes: [("to", .int(16 + $0))], inputs: [random([333], $0)], tolerance: 0) },
    { CandidateCase(name: "Cast", attributes: [("to", .int(20 + $0))], inputs: [random([333], $0)], tolerance: 0) },
    {
      CandidateCase(
        name: $0 % 2 == 0 ? "Add" : "Mul",
        inputs: [codes([7, 333], $0, signed: $0 % 2 == 0), codes([7, 1], $0 + 1, signed: $0 % 2 == 0)], tolerance: 0)
    },
  ]

  private static func quantized(_ x: Tensor, _ w: Tensor, group: Int, seed: Int) -> CandidateCase {
    let channels = w.shape[0]
    let scales = Tensor((0..<channels).map { 0.001 + 0.0001 * Float($0) }, shape: [channels])
    return CandidateCase(
      name: "QLinearConv", attributes: [("group", .int(group))],
      inputs: [
        x, Tensor(scalar: 0.5 as Float), codes([], seed, signed: false), w, scales,
        codes([channels], seed, signed: true),
        Tensor(scalar: 2 as Float), codes([], seed + 1, signed: false),
      ], constants: seed % 2 == 0 ? [3] : [], tolerance: 1)
  }

  private static let bytes: [@Sendable (Int) -> CandidateCase] = [
    {
      CandidateCase(
        name: "MaxPool", attributes: pool, inputs: [codes([2, 3, 11, 9], $0, signed: $0 % 2 == 0)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "MatMulInteger",
        inputs: [codes([7, 19], $0, signed: false), codes([19, 33], $0 + 1, signed: $0 % 2 == 0)],
        constants: $0 % 2 == 0 ? [1] : [], tolerance: 0)
    },
    {
      quantized(
        codes([2, 5, 9, 8], $0, signed: false), codes([7, 5, 3, 3], $0 + 1, signed: true), group: 1, seed: $0)
    },
    {
      quantized(
        codes([2, 6, 9, 8], $0, signed: false), codes([6, 1, 5, 5], $0 + 1, signed: true), group: 6, seed: $0)
    },
    { seed in
      let isPerColumn = seed % 2 == 0
      return CandidateCase(
        name: "QLinearMatMul",
        inputs: [
          codes([2, 7, 19], seed, signed: false), Tensor(scalar: 0.5 as Float), codes([], seed, signed: false),
          codes([19, 33], seed + 1, signed: true),
          isPerColumn ? Tensor((1...33).map { Float($0) / 512 }) : Tensor(scalar: 0.03 as Float),
          codes(isPerColumn ? [33] : [], seed + 2, signed: true), Tensor(scalar: 3 as Float),
          codes([], seed + 3, signed: isPerColumn),
        ], constants: isPerColumn ? [3] : [], tolerance: 0)
    },
    {
      CandidateCase(
        name: "IntegerGemm", domain: "apus", attributes: [("activation", .string("gelu")), ("transB", .int(1))],
        inputs: [
          codes([7, 19], $0, signed: false), codes([33, 19], $0 + 1, signed: true), codes([], $0, signed: false), nil,
          Tensor(scalar: 0.001 as Float), random([33], $0), random([7, 33], $0 + 1),
        ], constants: $0 % 2 == 0 ? [1] : [])
    },
    {
      CandidateCase(
        name: "QLinearGemm", domain: "apus",
        inputs: [
          codes([7, 19], $0, signed: true), Tensor(scalar: 0.5 as Float), codes([], $0, signed: true),
          codes([19, 33], $0 + 1, signed: false), Tensor(scalar: 0.03 as Float), codes([], $0 + 2, signed: false),
          Tensor(scalar: 3 as Float), codes([], $0 + 3, signed: false), Tensor((0..<33).map { Int32($0 * 100) }),
        ], constants: $0 % 2 == 0 ? [3] : [], tolerance: 0)
    },
    {
      CandidateCase(
        name: "ByteMap", domain: "apus",
        inputs: [codes([7, 33], $0, signed: $0 % 2 == 0), codes([256], $0 + 1, signed: false)], constants: [1],
        tolerance: 0)
    },
    {
      CandidateCase(
        name: "QLinearReduceMean", domain: "apus",
        inputs: [
          codes([2, 5, 9, 70], $0, signed: $0 % 2 == 0), Tensor([[2, 3], [1, 2], [0, 2], [1]][$0 % 4]),
          Tensor(scalar: 0.11 as Float), codes([], $0, signed: $0 % 2 == 0), Tensor(scalar: 0.3 as Float),
          codes([], $0 + 1, signed: $0 % 3 == 0),
        ], constants: [1], tolerance: 0)
    },
    { seed in
      CandidateCase(
        name: seed % 2 == 0 ? "QLinearAdd" : "QLinearMul", domain: "apus",
        inputs: [
          codes([7, 33], seed, signed: true), Tensor(scalar: 0.11 as Float), codes([], seed, signed: true),
          codes([33], seed + 1, signed: false), Tensor(scalar: 0.07 as Float), codes([], seed + 1, signed: false),
          Tensor(scalar: 0.3 as Float), codes([], seed + 2, signed: false),
        ], constants: [1, 2, 4, 5, 6, 7], tolerance: 0)
    },
    {
      CandidateCase(
        name: "ConvInteger",
        inputs: [codes([1, 5, 9, 8], $0, signed: false), codes([7, 5, 3, 3], $0 + 1, signed: false)], tolerance: 0)
    },
    {
      CandidateCase(
        name: "ConvInteger", attributes: [("group", .int(2))],
        inputs: [
          codes([2, 6, 5, 7], $0, signed: false), codes([8, 3, 1, 1], $0 + 1, signed: true),
          codes([], $0 + 2, signed: false), codes($0 % 2 == 0 ? [8] : [], $0 + 3, signed: true),
        ], constants: $0 % 2 == 0 ? [1, 3] : [], tolerance: 0)
    },
    {
      let scale = Tensor([0.01] as [Float])
      return CandidateCase(
        name: "DynamicQuantizeLSTM", domain: "com.microsoft", attributes: [("hidden_size", .int(6))],
        inputs: [
          random([4, 3, 5], $0), codes([1, 5, 24], $0, signed: false), codes([1, 6, 24], $0 + 1, signed: false), nil,
          nil, nil, nil, nil, scale, codes([1], $0, signed: false), scale, codes([1], $0 + 1, signed: false),
        ], outputs: 3)
    },
  ]

  /// The outputs under a selection, and the choices that were made.
  func run(_ selection: KernelSelection) throws -> (outputs: [Tensor], choices: [KernelChoice]) {
    var run = OperatorRun(name, domain: domain, attributes: attributes)
    run.constantInputs = constants
    let choices = KernelChoices()
    let values = try KernelScope(selection: selection, choices: choices).run { () throws in
      try run(inputs.map { $0.map { .tensor($0) } }, outputs: outputs)
    }
    return (values.compactMap(\.tensor), choices.all)
  }
}

/// What was found by running cases with each of their candidates.
struct CandidateSurvey {
  private struct Place: Hashable {
    let point: String
    let candidate: String
  }

  private(set) var problems: [String] = []
  private var seen: Set<Place> = []
  private var taken: Set<Place> = []

  /// Candidates that no case takes, and choices that no case makes.
  var unreached: [String] {
    let never = seen.subtracting(taken).map { "\($0.point): \($0.candidate)" }
    let choices = Set(seen.map(\.point))
    return never.sorted() + ChoicePoint.allCases.map(\.rawValue).filter { !choices.contains($0) }
  }

  mutating func checkAll() throws {
    for makeCase in CandidateCase.all {
      for seed in 1...2 { try check(makeCase(seed)) }
    }
  }

  /// Runs a case with each candidate that any of its choices has.
  mutating func check(_ one: CandidateCase) throws {
    let plain = try one.run(.plain)
    note(plain.choices)
    if let other = plain.choices.first(where: { $0.taken != "plain" }) {
      problems.append("\(one.name): \(other.taken) instead of the plain one")
    }
    let names = Set(plain.choices.flatMap { $0.opinions.map(\.candidate) })
    for selection in [KernelSelection.cheapest] + names.sorted().map({ .named($0) }) {
      let result = try one.run(selection)
      note(result.choices)
      for (a, b) in zip(result.outputs, plain.outputs) {
        let worst = CandidateSurvey.distance(a, b)
        if worst > one.tolerance { problems.append("\(one.name), \(selection): off by \(worst)") }
      }
      if result.outputs.count != plain.outputs.count { problems.append("\(one.name), \(selection): other outputs") }
    }
  }

  private mutating func note(_ choices: [KernelChoice]) {
    for choice in choices {
      for opinion in choice.opinions { seen.insert(Place(point: choice.point, candidate: opinion.candidate)) }
      taken.insert(Place(point: choice.point, candidate: choice.taken))
    }
  }

  private static func distance(_ a: Tensor, _ b: Tensor) -> Double {
    guard a.dataType == b.dataType, a.shape == b.shape, let x = numbers(a), let y = numbers(b) else { return .infinity }
    return zip(x, y).reduce(0) { worst, pair in
      if pair.0 == pair.1 || pair.0.isNaN && pair.1.isNaN { return worst }
      let difference = abs(pair.0 - pair.1) / (a.dataType.isFloat ? max(1, abs(pair.1)) : 1)
      return difference.isNaN ? .infinity : max(worst, difference)
    }
  }

  private static func numbers(_ tensor: Tensor) -> [Double]? {
    switch tensor.dataType {
    case .float32: tensor.elements(as: Float.self)?.map { Double($0) }
    case .uint8: tensor.elements(as: UInt8.self)?.map { Double($0) }
    case .int8: tensor.elements(as: Int8.self)?.map { Double($0) }
    case .int32: tensor.elements(as: Int32.self)?.map { Double($0) }
    case .int64: tensor.elements(as: Int64.self)?.map { Double($0) }
    case .float64: tensor.elements(as: Double.self)
    case .float16: tensor.elements(as: Float16.self)?.map { Double($0) }
    case .int16: tensor.elements(as: Int16.self)?.map { Double($0) }
    case .uint16: tensor.elements(as: UInt16.self)?.map { Double($0) }
    case .bool: tensor.elements(as: Bool.self)?.map { $0 ? 1 : 0 }
    case .bfloat16: tensor.elements(as: BFloat16.self)?.map { Double($0.float) }
    // Codes, of packed types several in a byte, which are equal or not.
    case let type where type.bits > 0 && type.bits <= 8:
      tensor.elements(as: UInt8.self, reinterpreting: true).map { Double($0) }
    default: nil
    }
  }
}
