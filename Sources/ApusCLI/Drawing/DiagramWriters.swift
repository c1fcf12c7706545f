// Diagrams as SVG, which stands by itself, and as DOT, for Graphviz.

import ApusGraph
import ApusOperators

/// Scalable Vector Graphics 1.1.
enum SVGWriter {
  static func text(_ layout: LayeredLayout, title: String) -> String {
    var out = """
      <svg xmlns="http://www.w3.org/2000/svg" width="\(number(layout.width))" height="\(number(layout.height + 26))" \
      viewBox="0 -26 \(number(layout.width)) \(number(layout.height + 26))" font-family="system-ui, sans-serif">
      <title>\(escaped(title))</title>
      <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
      <path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>
      <rect x="0" y="-26" width="100%" height="100%" fill="#fff"/>
      <text x="8" y="-8" font-size="14" font-weight="600" fill="#223">\(escaped(title))</text>

      """
    write(layout, x: 0, y: 0, to: &out)
    return out + "</svg>\n"
  }

  private static func write(_ layout: LayeredLayout, x: Double, y: Double, to out: inout String) {
    for (index, path) in layout.paths.enumerated() { write(path, layout.diagram.arrows[index].label, x, y, to: &out) }
    for (index, placed) in layout.boxes.enumerated() {
      let box = layout.diagram.boxes[index]
      let left = x + placed.x
      let top = y + placed.y
      let radius = box.kind == .node || box.kind == .group ? 4.0 : 11.0
      out += "<g><title>\(box.details.map(detail).joined(separator: "\n"))</title>"
      out +=
        "<rect x=\"\(number(left))\" y=\"\(number(top))\" width=\"\(number(placed.width))\" "
        + "height=\"\(number(placed.height))\" "
      out += "rx=\"\(number(radius))\" fill=\"\(fill(box))\" stroke=\"#99a\"/>"
      out +=
        "<text x=\"\(number(left + placed.width / 2))\" y=\"\(number(top + 16))\" font-size=\"12\" font-weight=\"600\" "
      out += "text-anchor=\"middle\" fill=\"#112\">\(escaped(box.title))</text>"
      for (line, text) in box.lines.enumerated() {
        let baseline = top + LayeredLayout.titleHeight + Double(line + 1) * LayeredLayout.lineHeight
        out += "<text x=\"\(number(left + placed.width / 2))\" y=\"\(number(baseline))\" font-size=\"10\" "
        out += "text-anchor=\"middle\" fill=\"#445\">\(escaped(text))</text>"
      }
      out += "</g>\n"
      for inner in placed.inner {
        out +=
          "<rect x=\"\(number(left + inner.x))\" y=\"\(number(top + inner.y))\" "
          + "width=\"\(number(inner.layout.width))\" "
        out += "height=\"\(number(inner.layout.height))\" fill=\"#fff\" stroke=\"#bbc\" stroke-dasharray=\"4 3\"/>"
        out +=
          "<text x=\"\(number(left + inner.x + 4))\" y=\"\(number(top + inner.y - 3))\" font-size=\"10\" "
          + "fill=\"#667\">\(escaped(inner.name))</text>\n"
        write(inner.layout, x: left + inner.x, y: top + inner.y, to: &out)
      }
    }
  }

  private static func write(
    _ path: [(x: Double, y: Double)], _ label: String, _ x: Double, _ y: Double, to out: inout String
  ) {
    guard let first = path.first, let last = path.last else { return }
    var data = "M\(number(x + first.x)) \(number(y + first.y))"
    for (a, b) in zip(path, path.dropFirst()) {
      let middle = number(y + (a.y + b.y) / 2)
      data += "C\(number(x + a.x)) \(middle) \(number(x + b.x)) \(middle) \(number(x + b.x)) \(number(y + b.y))"
    }
    out += "<path d=\"\(data)\" fill=\"none\" stroke=\"#889\" marker-end=\"url(#tip)\"/>"
    if !label.isEmpty {
      out +=
        "<text x=\"\(number(x + last.x + 4))\" y=\"\(number(y + last.y - 9))\" font-size=\"9\" "
        + "fill=\"#778\">\(escaped(label))</text>"
    }
    out += "\n"
  }

  /// A colour for each kind of work, so that the eye finds its way.
  private static func fill(_ box: Diagram.Box) -> String {
    switch box.kind {
    case .input: return "#dff0df"
    case .output: return "#fbe3dc"
    case .capture: return "#eeeeee"
    case .group: return "#e3ecec"
    case .node: break
    }
    guard let schema = box.op.flatMap({ OperatorRegistry.standard.definition(of: $0)?.schema }) else {
      return "#f7f7fa"
    }
    if schema.attributes.contains(where: { $0.kind == .graph }) { return "#e8dcf7" }
    if schema.multiplyAdds != nil { return "#d6e4fb" }
    // Rows that are brought to one scale have no trait that says so: by the words of the field.
    if ["Normalization", "Softmax"].contains(where: { schema.id.name.contains($0) }) { return "#fdf0cf" }
    switch schema.layout {
    case .images, .reducing: return "#fdf0cf"
    default: if schema.traits.contains(.movesData) { return "#ececf2" }
    }
    return "#f7f7fa"
  }

  private static func number(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
}

/// The language of Graphviz. https://graphviz.org/doc/info/lang.html
enum DOTWriter {
  static func text(_ diagram: Diagram, title: String) -> String {
    var out =
      "digraph \"\(quoted(title))\" {\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n"
      + "  edge [fontsize=8];\n"
    write(diagram, prefix: "n", indent: "  ", to: &out)
    return out + "}\n"
  }

  private static func write(_ diagram: Diagram, prefix: String, indent: String, to out: inout String) {
    for (index, box) in diagram.boxes.enumerated() {
      let label = ([box.title] + box.lines).map(quoted).joined(separator: "\\n")
      let style = box.kind == .node ? "" : box.kind == .group ? ", peripheries=2" : ", style=rounded"
      let tooltip = box.details.map(quoted).joined(separator: "\\n")
      out += "\(indent)\(prefix)\(index) [label=\"\(label)\", tooltip=\"\(tooltip)\"\(style)];\n"
      for (position, inner) in box.inner.enumerated() {
        let name = "\(prefix)\(index)_\(position)_"
        out +=
          "\(indent)subgraph \"cluster_\(name)\" {\n\(indent)  label=\"\(quoted("\(box.title) \(inner.name)"))\";\n"
        write(inner.diagram, prefix: name, indent: indent + "  ", to: &out)
        out += "\(indent)}\n"
      }
    }
    for arrow in diagram.arrows {
      out += "\(indent)\(prefix)\(arrow.from) -> \(prefix)\(arrow.to) [label=\"\(quoted(arrow.label))\"];\n"
    }
  }

  private static func quoted(_ text: String) -> String {
    text.printable(limit: detailLimit).replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
  }
}

/// Longer lines (the elements of an attribute, say) are cut in the middle.
private let detailLimit = 8000

/// A line of what a reader sees who points at a box.
private func detail(_ text: String) -> String { escaped(text.printable(limit: detailLimit)) }

/// Text inside XML, which has no control characters.
private func escaped(_ text: String) -> String {
  text.printable(limit: detailLimit).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(
    ">", with: "&gt;"
  ).replacing("\"", with: "&quot;")
}
