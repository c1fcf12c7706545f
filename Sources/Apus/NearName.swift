// Names that somebody may have meant.

/// The names among `names` that differ from `name` so little that it may be a slip, the nearest first, at most three.
/// Small and capital letters are the same; a third of the characters may differ, or one. Names of more than 200
/// characters are far from all others.
package func nearNames(_ name: String, among names: [String]) -> [String] {
  let longest = 200
  let wanted = Array(name.lowercased().unicodeScalars)
  if wanted.count > longest { return [] }
  var near: [(name: String, distance: Int)] = []
  for other in names {
    let scalars = Array(other.lowercased().unicodeScalars)
    if scalars.count > longest { continue }
    let distance = editDistance(wanted, scalars)
    if distance <= max(1, min(wanted.count, scalars.count) / 3) { near.append((other, distance)) }
  }
  return near.sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }.prefix(3).map(\.name)
}

/// The nearest of them.
func nearName(_ name: String, among names: [String]) -> String? { nearNames(name, among: names).first }

/// Insertions, deletions, replacements and exchanges of neighbours that make one text of the other.
private func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var (before, last) = ([Int](), Array(0...b.count))
  for i in a.indices {
    var row = [i + 1]
    for j in b.indices {
      var least = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { least = min(least, before[j - 1] + 1) }
      row.append(least)
    }
    (before, last) = (last, row)
  }
  return last[b.count]
}
