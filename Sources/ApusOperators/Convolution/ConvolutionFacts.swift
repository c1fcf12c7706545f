// The candidates of a float32 convolution: the plain form, and those in which its weights come to the kernels.

import ApusGraph
import ApusTensor
import CApusKernels

/// What the form of a convolution is chosen by.
struct ConvolutionFacts: KernelFacts {
  typealias Candidate = KernelCandidate<ConvolutionFacts, ConvolutionForm?>

  /// Of the weights, in the specification's layout.
  let shape: [Int]
  let groups: Int
  let dilations: [Int]
  var layout = ImageLayout.planar

  /// What else is known when constant weights are packed.
  struct Constant: Sendable {
    let strides: [Int]
    /// Extents of the input's spatial axes; nil where they are not known.
    let image: [Int?]
  }
  /// nil: the weights are packed while running, or only to be looked at.
  var constant: Constant?
  /// Constant weights and images may be rounded to bfloat16, and the machine has products of it.
  var isNarrow = false

  var elementType: DataType? { .float32 }

  /// The form to be taken; nil: the plain one.
  var form: ConvolutionForm? {
    get throws(OperatorError) { try Candidate.choose(.convolution, for: self, ConvolutionFacts.candidates) }
  }

  private var channelsPerGroup: Int { shape[1] }
  private var outputsPerGroup: Int { shape[0] / groups }

  /// True if the kernels have it at all: whole groups of weights that have elements.
  private var isWhole: Bool {
    shape.count >= 3 && shape.allSatisfy { $0 > 0 } && groups >= 1 && shape[0] % groups == 0
  }
  var isDepthwise: Bool { groups > 1 && channelsPerGroup == 1 && outputsPerGroup == 1 }

  /// True of a convolution that is worth no changes of layout: over planes it is as fast.
  static func staysPlanar(_ node: NodeFacts) -> Bool {
    guard let weights = node.constant(1), weights.rank >= 3 else {
      return false
    }
    let facts = ConvolutionFacts(shape: weights.shape.dims, groups: node.optionalInt("group") ?? 1, dilations: [])
    guard facts.isWhole, facts.groups > 1, weights.rank <= 5 else { return false }
    return facts.isDepthwise || panelWaste(facts.outputsPerGroup) > 1.5
  }

  /// Images of more channels fill vectors without being copied.
  private static let fewChannels = 4
  /// What finding a tap takes, in multiply-adds with all outputs.
  private static let tapCost = 0.75
  /// What copying an element of the image takes, likewise.
  private static let copyCost = 0.05
  /// What reading a byte of transformed weights takes, in operations: no cache holds them from one block to the next.
  private static let weightCost = 8.0
  /// By how much minimal filtering must be cheaper than the sum of all taps, as its weights take more memory.
  private static let winogradMargin = 1.15
  /// The extent of images whose extents are not known.
  private static let usualExtent = 28

  /// What a multiply-add over planes takes, of one in a matrix product, and for channels-last images their changes of
  /// layout in multiply-adds of all taps.
  private static let planeCost = 1.3
  private static let changeCost = 4.0

  /// The operations for one product of an element and its weights for one output, if a tap has so many elements.
  private func operations(ofTap elements: Int) -> Double {
    2 * panelWaste(outputsPerGroup) * (1 + ConvolutionFacts.tapCost / Double(elements))
  }

  /// The cost of minimal filtering in tiles of m × m outputs.
  private func winograd(_ m: Int) -> Appraisal {
    guard isWhole, groups == 1, shape.count == 4, shape[2] == 3, shape[3] == 3 else {
      return .refused("the windows are not of 3×3 elements, or there are groups")
    }
    if isNarrow { return .refused("products of bfloat16 are faster") }
    guard dilations == [1, 1], let constant else { return .refused("dilations, or weights that are not constant") }
    guard constant.strides == [1, 1] else { return .refused("the strides are not 1") }
    let image = (0..<2).map { axis in
      (axis < constant.image.count ? constant.image[axis] : nil) ?? ConvolutionFacts.usualExtent
    }
    let (channels, outputs) = (shape[1], shape[0])
    let tiles = apus_winograd_tiles(m, 1, image[0], image[1])
    let tileOperations = WinogradTiles.operations(m: m, tiles: 1, channels: channels, outputs: outputs)
    // In floating point, as images may have any extents.
    let weights = Double((m + 2) * (m + 2) * 4) * Double(channels) * Double(outputs)
    let products = 9 * Double(channels) * Double(outputs) * Double(image[0]) * Double(image[1])
    let cost = Double(tiles) * tileOperations + ConvolutionFacts.weightCost * weights
    return ConvolutionFacts.cost(ConvolutionFacts.winogradMargin * cost / max(products, 1))
  }

  /// Costs are those of a thousand multiply-adds: extents of images may not be known when weights are packed.
  private static func cost(_ operations: Double) -> Appraisal { .cost(.vectors(operations: 1000 * operations)) }

  static let candidates = [
    Candidate("plain") { _ in
      .cost(.loops(operations: 4000))
    } make: { _ in
      .some(nil)
    },
    Candidate("taps", types: [.float32]) { facts in
      guard facts.isWhole else { return .refused("the weights have no elements, or no whole groups") }
      return cost(facts.operations(ofTap: facts.channelsPerGroup))
    } make: { _ in
      .taps
    },
    Candidate("rows", types: [.float32]) { facts in
      guard facts.isWhole, facts.groups == 1 else { return .refused("there are groups") }
      guard facts.channelsPerGroup <= fewChannels else { return .refused("more than \(fewChannels) channels") }
      guard let width = facts.shape.last, width > 1, facts.dilations.last == 1 else {
        return .refused("the elements of a row of a window are no neighbours, or one")
      }
      return cost(facts.operations(ofTap: facts.channelsPerGroup * width) + copyCost)
    } make: { _ in
      .rows
    },
    Candidate("depthwise", types: [.float32]) { facts in
      guard facts.isWhole, facts.isDepthwise else { return .refused("not one channel and one output for each group") }
      guard facts.shape.count <= 4 else { return .refused("more than two spatial axes") }
      return cost(2)
    } make: { _ in
      .depthwise
    },
    Candidate("planes", types: [.float32]) { facts in
      guard facts.isWhole else { return .refused("the weights have no elements, or no whole groups") }
      guard facts.groups > 1 else { return .refused("there is one group") }
      guard facts.shape.count <= 5 else { return .refused("more than three spatial axes") }
      let taps = facts.shape[1...].reduce(1) { $0 * Double($1) }
      let changes = facts.layout == .planar ? 0 : changeCost / taps
      // A depthwise convolution of planar images has their changes of layout for it.
      let isCheapest = facts.layout == .planar && facts.isDepthwise
      return isCheapest ? .cost(.vectors(operations: 1)) : cost(2 * (planeCost + changes))
    } make: { _ in
      .planes
    },
    Candidate("winograd2", types: [.float32]) {
      $0.winograd(2)
    } make: { _ in
      .winograd2
    },
    Candidate("winograd4", types: [.float32]) {
      $0.winograd(4)
    } make: { _ in
      .winograd4
    },
  ]
}

/// How many times as many columns a product has as are wanted: kernels compute whole vectors of columns.
func panelWaste(_ columns: Int) -> Double {
  let width = 16
  return Double((columns &+ width &- 1) / width &* width) / Double(max(columns, 1))
}
