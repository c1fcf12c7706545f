// Places for the boxes of a diagram: layers from top to bottom, few crossings, long arrows around the boxes between.
// The method is that of Sugiyama, Tagawa and Toda (1981): longest-path layers, barycentre ordering, then coordinates.

/// A diagram with coordinates, in pixels from its upper left corner.
struct LayeredLayout {
  struct Placed {
    var x = 0.0, y = 0.0, width = 0.0, height = 0.0
    /// Layouts of the inner diagrams, with their offsets inside the box.
    var inner: [(name: String, layout: LayeredLayout, x: Double, y: Double)] = []
  }

  let diagram: Diagram
  private(set) var boxes: [Placed] = []
  /// By arrow: the points it passes, from box to box.
  private(set) var paths: [[(x: Double, y: Double)]] = []
  private(set) var width = 0.0
  private(set) var height = 0.0

  static let lineHeight = 13.0
  static let titleHeight = 17.0
  private static let gapX = 22.0
  private static let gapY = 34.0

  /// A place in a layer: a box, or a bend of a long arrow.
  private struct Slot {
    var box: Int?
    var width: Double
    var x = 0.0
    var above: [Int] = []
    var below: [Int] = []
  }

  init(_ diagram: Diagram) {
    self.diagram = diagram
    boxes = diagram.boxes.map(LayeredLayout.size)
    let layers = layerOfBoxes()
    var slots: [Slot] = diagram.boxes.indices.map { Slot(box: $0, width: boxes[$0].width) }
    var rows = [[Int]](repeating: [], count: (layers.max() ?? 0) + 1)
    for box in diagram.boxes.indices { rows[layers[box]].append(box) }
    var bends: [[Int]] = []
    for arrow in diagram.arrows {
      var chain = [arrow.from]
      for layer in (layers[arrow.from] + 1)..<max(layers[arrow.to], layers[arrow.from] + 1) {
        chain.append(slots.count)
        rows[layer].append(slots.count)
        slots.append(Slot(box: nil, width: 6))
      }
      chain.append(arrow.to)
      for (upper, lower) in zip(chain, chain.dropFirst()) {
        slots[upper].below.append(lower)
        slots[lower].above.append(upper)
      }
      bends.append(chain)
    }
    LayeredLayout.order(&rows, slots)
    LayeredLayout.place(rows, &slots)
    finish(rows, slots, bends)
  }

  /// The extents of a box from its text and what is inside.
  private static func size(_ box: Diagram.Box) -> Placed {
    var placed = Placed()
    let text = box.lines.map { Double($0.count) * 5.6 }.max() ?? 0
    placed.width = max(64, Double(box.title.count) * 7.4, text) + 16
    placed.height = titleHeight + Double(box.lines.count) * lineHeight + 8
    var x = 10.0
    var tallest = 0.0
    for (name, diagram) in box.inner {
      let layout = LayeredLayout(diagram)
      placed.inner.append((name, layout, x, placed.height + 14))
      x += layout.width + 14
      tallest = max(tallest, layout.height)
    }
    if !placed.inner.isEmpty {
      placed.width = max(placed.width, x)
      placed.height += tallest + 24
    }
    return placed
  }

  /// The longest way from a box without arrows into it. Boxes stand in an order in which arrows point forwards.
  private func layerOfBoxes() -> [Int] {
    var layers = [Int](repeating: 0, count: diagram.boxes.count)
    for arrow in diagram.arrows.sorted(by: { ($0.to, $0.from) < ($1.to, $1.from) }) {
      layers[arrow.to] = max(layers[arrow.to], layers[arrow.from] + 1)
    }
    // Inputs stand right above their first user.
    for box in diagram.boxes.indices where diagram.boxes[box].kind == .input || diagram.boxes[box].kind == .capture {
      if let first = diagram.arrows.filter({ $0.from == box }).map({ layers[$0.to] }).min() {
        layers[box] = max(first - 1, 0)
      }
    }
    return layers
  }

  /// Sorts each layer by the middle of its neighbours, downwards and upwards in turn.
  private static func order(_ rows: inout [[Int]], _ slots: [Slot]) {
    var position = [Double](repeating: 0, count: slots.count)
    func number(_ row: [Int]) { for (index, slot) in row.enumerated() { position[slot] = Double(index) } }
    rows.forEach(number)
    for sweep in 0..<8 {
      let order = sweep % 2 == 0 ? Array(rows.indices) : rows.indices.reversed()
      for index in order {
        let keys = rows[index].map { slot -> Double in
          let neighbours = sweep % 2 == 0 ? slots[slot].above : slots[slot].below
          return neighbours.isEmpty
            ? position[slot] : neighbours.reduce(0) { $0 + position[$1] } / Double(neighbours.count)
        }
        rows[index] = zip(rows[index], keys).enumerated()
          .sorted { ($0.element.1, $0.offset) < ($1.element.1, $1.offset) }.map(\.element.0)
        number(rows[index])
      }
    }
  }

  /// Moves the slots of each layer under and above their neighbours, without overlaps.
  private static func place(_ rows: [[Int]], _ slots: inout [Slot]) {
    for row in rows {
      var x = 0.0
      for slot in row {
        slots[slot].x = x
        x += slots[slot].width + gapX
      }
    }
    for sweep in 0..<10 {
      for row in sweep % 2 == 0 ? rows : rows.reversed() {
        let wanted = row.map { slot -> Double in
          let neighbours = sweep % 2 == 0 ? slots[slot].above : slots[slot].below
          if neighbours.isEmpty { return slots[slot].x }
          let middle = neighbours.reduce(0) { $0 + slots[$1].x + slots[$1].width / 2 } / Double(neighbours.count)
          return middle - slots[slot].width / 2
        }
        pack(row, wanted, &slots)
      }
    }
  }

  /// The places nearest to the wanted ones that keep the order and the gaps: the mean of packing from both sides.
  private static func pack(_ row: [Int], _ wanted: [Double], _ slots: inout [Slot]) {
    var left: [Double] = []
    var edge = -Double.infinity
    for (index, slot) in row.enumerated() {
      left.append(max(wanted[index], edge))
      edge = left[index] + slots[slot].width + gapX
    }
    var right = [Double](repeating: 0, count: row.count)
    edge = .infinity
    for (index, slot) in row.enumerated().reversed() {
      right[index] = min(wanted[index], edge - slots[slot].width - (edge.isFinite ? gapX : 0))
      edge = right[index]
    }
    for (index, slot) in row.enumerated() { slots[slot].x = (left[index] + right[index]) / 2 }
  }

  /// Turns slots into coordinates and arrows into paths.
  private mutating func finish(_ rows: [[Int]], _ slots: [Slot], _ bends: [[Int]]) {
    let leftmost = slots.map(\.x).min() ?? 0
    var y = 8.0
    var top = [Double](repeating: 0, count: slots.count)
    var bottom = top
    for row in rows {
      let tallest = row.compactMap { slots[$0].box.map { boxes[$0].height } }.max() ?? 0
      for slot in row {
        let boxHeight = slots[slot].box.map { boxes[$0].height } ?? tallest
        top[slot] = slots[slot].box == nil ? y : y + (tallest - boxHeight) / 2
        bottom[slot] = top[slot] + boxHeight
        if let box = slots[slot].box {
          boxes[box].x = slots[slot].x - leftmost + 8
          boxes[box].y = top[slot]
        }
      }
      y += tallest + LayeredLayout.gapY
    }
    width = (slots.map { $0.x + $0.width }.max() ?? 0) - leftmost + 16
    height = max(y - LayeredLayout.gapY, 0) + 8
    paths = bends.map { chain in
      chain.enumerated().flatMap { index, slot -> [(x: Double, y: Double)] in
        let x = slots[slot].x + slots[slot].width / 2 - leftmost + 8
        if index == 0 { return [(x, bottom[slot])] }
        if index == chain.count - 1 { return [(x, top[slot])] }
        return [(x, top[slot]), (x, bottom[slot])]
      }
    }
  }
}
