// Where the zeros of a model's weights lie.

import ApusGraph
import ApusOperators
import ApusTensor

/// The zeros of the weights that products read, those of graphs inside nodes included.
public struct SparsityReport: Sendable, Encodable {
  public struct Weight: Sendable, Encodable {
    public let weight, node, `operator`, type: String
    public let shape: [Int]
    public let elements, zeros: Int
    /// The elements as a share of all parameters of the model.
    public let share: Double
    /// The axes of the channels that are computed, and of those that are read.
    public let outputAxis, inputAxis: Int
    /// The zeros of each channel; all of a channel's elements are as many as the others'.
    public let zerosByOutputChannel, zerosByInputChannel: [Int]
    /// Channels of zeros alone.
    public let emptyOutputChannels, emptyInputChannels: Int
    /// The share of the groups of 4 in a row along the input channels of which 2 at most are not 0.
    public let twoOfFour: Double

    public var zeroShare: Double { elements > 0 ? Double(zeros) / Double(elements) : 0 }
  }

  public private(set) var weights: [Weight] = []
  /// Elements of all constants, and zeros among those of weights.
  public let parameters: Int
  public private(set) var weightElements = 0
  public private(set) var zeros = 0

  package init(_ graph: Graph, registry: OperatorRegistry = .standard) {
    parameters = graph.parameterCount
    for (weight, tensor) in graph.allWeights(registry: registry) {
      guard let numbers = WeightNumbers.read(tensor) else { continue }
      let row = Self.row(weight, tensor, numbers, parameters)
      weights.append(row)
      weightElements += row.elements
      zeros += row.zeros
    }
  }

  private static func row(
    _ weight: WeightReference, _ tensor: Tensor, _ numbers: [Float], _ parameters: Int
  ) -> Weight {
    let (outputs, inputs) = (
      AxisWalk(tensor.shape, axis: weight.outputAxis), AxisWalk(tensor.shape, axis: weight.inputAxis)
    )
    var byOutput = [Int](repeating: 0, count: outputs.extent)
    var byInput = [Int](repeating: 0, count: inputs.extent)
    for (element, number) in numbers.enumerated() where number == 0 {
      byOutput[outputs.index(of: element)] += 1
      byInput[inputs.index(of: element)] += 1
    }
    func empty(_ zeros: [Int]) -> Int { zeros.count { $0 == numbers.count / zeros.count } }
    return Weight(
      weight: weight.name, node: weight.node, operator: weight.op.description, type: "\(tensor.dataType)",
      shape: tensor.shape.dims, elements: numbers.count, zeros: byOutput.reduce(0, +),
      share: Double(numbers.count) / Double(max(parameters, 1)), outputAxis: weight.outputAxis,
      inputAxis: weight.inputAxis, zerosByOutputChannel: byOutput, zerosByInputChannel: byInput,
      emptyOutputChannels: empty(byOutput), emptyInputChannels: empty(byInput),
      twoOfFour: SparsePattern(kept: 2, group: 4).conformity(numbers, tensor.shape, axis: weight.inputAxis))
  }
}
