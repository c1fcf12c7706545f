// The traits of operators that need more than a flag: what passes, writers and reports ask instead of looking at names.

import ApusTensor

/// A condition on a node: its attributes, and what is known of its operands.
package typealias NodeCondition = @Sendable (NodeFacts) -> Bool

/// A number that follows from a node and what is known of its operands.
package typealias NodeFormula = @Sendable (NodeFacts) -> Dim

/// When a node hands its first input on as its first output, element for element. A node whose other outputs are
/// wanted is none of these.
package enum IdentityCondition: Sendable {
  case never
  case always
  /// With one input there is nothing to join.
  case oneInput
  /// Where input and output have the same shape, and a condition holds.
  case sameShape(NodeCondition)
  case when(NodeCondition)

  package static let sameShape = IdentityCondition.sameShape { _ in true }

  package var isPossible: Bool { if case .never = self { false } else { true } }

  package func holds(for node: NodeFacts) -> Bool {
    switch self {
    case .never: return false
    case .always: return true
    case .oneInput: return node.node.inputs.count == 1
    case .when(let condition): return condition(node)
    case .sameShape(let condition):
      guard let before = node.shape(0), let after = node.outputShape(0), before.count == after.count,
        zip(before, after).allSatisfy({ $0.isSame(as: $1) })
      else { return false }
      return condition(node)
    }
  }
}

/// What becomes of an operator when the axes of its operands are put in another order.
package enum LayoutTrait: Sendable {
  /// It needs its operands as the specification has them.
  case fixed
  /// Every element of output 0 comes from the element of input 0 in the same place, where the condition holds. What
  /// the other inputs say holds for all elements alike.
  case elementwise(NodeCondition)
  /// Every element of output 0 comes from those in the same place of all inputs, broadcast to each other.
  case broadcasting
  /// The attribute names an axis of all operands, which have the same rank; nothing else depends on the order of axes.
  case along(attribute: String)
  /// The attribute names an axis of input 0 and of all outputs, which have its rank; nothing else depends on the order
  /// of axes, and what the other inputs say holds in any order.
  case axis(attribute: String)
  /// The attribute lists axes of input 0, whose order is that of what other inputs say of axes; where it is absent it
  /// is all of them. Nothing else depends on the order of axes where the condition holds, and output 0 has the rank of
  /// input 0.
  case axes(attribute: String, NodeCondition)
  /// The input lists axes of input 0, whose order is that of what the other inputs say of axes; where it is absent it
  /// is all of them. Nothing else depends on the order of axes, and output 0 has the rank of input 0.
  case axesInput(Int)
  /// Input 1 names the axes that are reduced, by the attributes `keepdims` and `noop_with_empty_axes`.
  case reducing
  /// Output 0 has the elements of input 0 in the same order, in another shape.
  case reshaping
  /// Output 0 depends on the elements of input 0 in whatever order they lie, and has no axis of theirs.
  case orderless
  /// Works on images: batch, channels, spatial axes. Where the condition holds, `twin` computes the same of images
  /// whose channels are last, from the same attributes and other inputs; `isFaster` says where that alone is worth two
  /// changes of the order, `isFasterAlone` where this is so of the only such operator of a graph.
  case images(
    twin: OperatorID, isFaster: NodeCondition, isFasterAlone: NodeCondition = { _ in true }, NodeCondition)

  package static let elementwise = LayoutTrait.elementwise { _ in true }
}

/// The older operator sets that have the newest form of an operator, meaning the same.
package struct PortableForm: Sendable {
  /// From this operator set on, if the operator is not younger,
  package let opset: Int
  /// for nodes whose values have these element types. Attributes and inputs that came later say so by `since`.
  package let types: Set<DataType>

  /// The operator set that models are written for if nothing in them needs a newer one: other runtimes lag behind.
  package static let floor = 21

  /// Versions after `floor` allow more element types than these and change nothing else.
  package static func moreTypes(than types: TypeSet) -> PortableForm {
    PortableForm(opset: floor, types: Set(types.tensors))
  }

  /// Versions after `floor` allow more narrow types (bfloat16, 8 bits of float and less) and change nothing else.
  package static let moreTypes = moreTypes(than: .beforeNarrowTypes)
}

/// The values that the body of a loop, the attribute `body`, hands from one iteration to the next.
package struct CarriedValues: Sendable {
  /// The first of them among the inputs of the node and of the body,
  package let input: Int
  /// among the outputs of the body, and among those of the node.
  package let bodyOutput: Int
  package let output: Int
  /// How many there are, for a node with a body of so many inputs.
  package let count: @Sendable (_ node: Node, _ bodyInputs: Int) -> Int

  package init(
    input: Int, bodyOutput: Int, output: Int = 0, count: @escaping @Sendable (_ node: Node, _ bodyInputs: Int) -> Int
  ) {
    (self.input, self.bodyOutput, self.output, self.count) = (input, bodyOutput, output, count)
  }
}

/// The operand of a product that a model has learnt, and what its axes are.
package struct WeightTrait: Sendable {
  /// The operand that the weights are multiplied with.
  package let data: Int
  package let weights: Int
  /// What is added to the products, one number for each output; nil: nothing can be.
  package let bias: Int?
  /// nil where the weights have no such axes.
  package let axes: @Sendable (NodeFacts) -> Axes?

  /// Axes from the front.
  package struct Axes: Sendable, Equatable {
    /// Of the weights: the one that counts outputs, and the one along which they are multiplied and summed.
    package let outputs, inputs: Int
    /// Of the data: the one that is multiplied with the latter. Of the result: the one that the former becomes.
    package let data, result: Int
    /// The parts in which neither outputs nor inputs have to do with those of another.
    package let groups: Int

    package init(outputs: Int, inputs: Int, data: Int, result: Int, groups: Int = 1) {
      (self.outputs, self.inputs, self.data, self.result, self.groups) = (outputs, inputs, data, result, groups)
    }
  }

  package init(
    data: Int = 0, weights: Int = 1, bias: Int? = nil, axes: @escaping @Sendable (NodeFacts) -> Axes?
  ) {
    (self.data, self.weights, self.bias, self.axes) = (data, weights, bias, axes)
  }
}

/// How an operator deals with floats that stand for integers by one scale and one zero point.
package enum CodeTrait: Sendable {
  /// It needs floats.
  case none
  /// Its results lie between the least and the greatest element of its inputs: one scale and zero point serve all.
  case keeps
  /// It can be computed on integers, with a scale and zero point of each operand's own.
  case computes
  /// The same; and its results are the elements of input 0, those beyond bounds replaced by them. nil: the bounds are
  /// not known.
  case clamps(@Sendable (NodeFacts) -> ClosedRange<Float>?)
}
