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

  /// Of weights whose values are known and of a node that has them.
  init?(_ node: NodeFacts, layout: ImageLayout = .planar) {
    guard let weights = node.constant(1), weights.rank >= 3 else { return nil }
    let rank = weights.rank - 2
    let ones = [Int](repeating: 1, count: rank)
    let strides = node.optionalInts("strides") ?? ones
    let dilations = node.optionalInts("dilations") ?? ones
    guard strides.count == rank, dilations.count == rank else { return nil }
    let image = node.shape(0)?.dropFirst(layout == .planar ? 2 : 1).prefix(rank).map(\.known) ?? []
    self.init(
      shape: weights.shape.dims, groups: node.optionalInt("group") ?? 1, dilations: dilations, layout: layout,
      constant: Constant(strides: strides, image: image))
  }

  init(
    shape: [Int], groups: Int, dilations: [Int], layout: ImageLayout = .planar, constant: Constant? = nil,
    isNarrow: Bool = false
  ) {
    (self.shape, self.groups, self.dilations, self.layout) = (shape, groups, dilations, layout)
    (self.constant, self.isNarrow) = (constant, isNarrow)
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
    guard let facts = ConvolutionFacts(node), facts.isWhole, facts.groups > 1, facts.shape.count <= 5 else {
      return false
    }
    return facts.isDepthwise || panelWaste(facts.outputsPerGroup) > 1.5
  }

  /// True of a convolution that is computed in planar layout, where nothing around it is in another one.
  static func isFastestPlanar(_ node: NodeFacts) -> Bool {
    guard let facts = ConvolutionFacts(node), let form = try? facts.form else { return false }
    return form.isPlanar
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
  /// What moving an element between the layouts takes, in multiply-adds of a matrix product.
  private static let layoutCost = 32.0
  /// What a row of a panel of columns takes to be packed, in multiply-adds of one output with it: of pixels, of windows
  /// at stride 1 or 2, of others.
  private static let columnCosts = (pixel: 10.0, near: 12.0, second: 20.0, far: 50.0)

  /// Elements of a plane of the image and, nearly, of the output.
  private var areas: (input: Double, output: Double) {
    let strides = constant?.strides ?? []
    let image = constant?.image ?? []
    return (0..<max(shape.count - 2, 0)).reduce((1, 1)) { areas, axis in
      let extent = Double((axis < image.count ? image[axis] : nil) ?? ConvolutionFacts.usualExtent)
      let stride = Double(axis < strides.count ? strides[axis] : 1)
      return (areas.0 * extent, areas.1 * max((extent / stride).rounded(.up), 1))
    }
  }

  /// What the changes of the layout of planar images take, in operations for one multiply-add: of the output, and of
  /// the input where it is not read as it is.
  private func layoutChanges(readsPlanar: Bool = false) -> Double {
    guard layout == .planar else { return 0 }
    let (input, output) = areas
    let products = shape.reduce(1.0) { $0 * Double($1) } * output
    let channels = readsPlanar ? 0 : Double(groups) * Double(channelsPerGroup) * input
    return 2 * ConvolutionFacts.layoutCost * (channels + Double(shape[0]) * output) / max(products, 1)
  }

  /// The operations for one multiply-add where windows are columns, of which vectors are filled up.
  private var columnOperations: Double {
    let width = Double(GemmKernels.current.panelColumns)
    let pixels = max(areas.output, 1)
    let costs = ConvolutionFacts.columnCosts
    let stride = constant?.strides.last ?? 1
    let isPixel = shape[2...].allSatisfy { $0 == 1 } && constant?.strides.allSatisfy { $0 == 1 } ?? true
    let row = isPixel ? costs.pixel : stride == 1 ? costs.near : stride == 2 ? costs.second : costs.far
    return 2 * (pixels / width).rounded(.up) * width / pixels * (1 + row / Double(outputsPerGroup))
  }

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
    return ConvolutionFacts.cost(ConvolutionFacts.winogradMargin * cost / max(products, 1) + layoutChanges())
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
      return cost(facts.operations(ofTap: facts.channelsPerGroup) + facts.layoutChanges())
    } make: { _ in
      .taps
    },
    Candidate("rows", types: [.float32]) { facts in
      guard facts.isWhole, facts.groups == 1 else { return .refused("there are groups") }
      guard facts.channelsPerGroup <= fewChannels else { return .refused("more than \(fewChannels) channels") }
      guard let width = facts.shape.last, width > 1, facts.dilations.last == 1 else {
        return .refused("the elements of a row of a window are no neighbours, or one")
      }
      return cost(
        facts.operations(ofTap: facts.channelsPerGroup * width) + copyCost + facts.layoutChanges(readsPlanar: true))
    } make: { _ in
      .rows
    },
    Candidate("depthwise", types: [.float32]) { facts in
      guard facts.isWhole, facts.isDepthwise else { return .refused("not one channel and one output for each group") }
      guard facts.shape.count <= 4 else { return .refused("more than two spatial axes") }
      return cost(2 + facts.layoutChanges())
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
    Candidate("columns", types: [.float32], layouts: [.planar]) { facts in
      guard facts.isWhole else { return .refused("the weights have no elements, or no whole groups") }
      guard facts.shape.count <= 5 else { return .refused("more than three spatial axes") }
      guard facts.shape[1...].reduce(1, &*) <= ColumnConvolution.largestWindow else {
        return .refused("windows of more than \(ColumnConvolution.largestWindow) elements")
      }
      return cost(facts.columnOperations)
    } make: { _ in
      .columns
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
  let whole: Int = (columns &+ width &- 1) / width &* width
  return Double(whole) / Double(max(columns, 1))
}
