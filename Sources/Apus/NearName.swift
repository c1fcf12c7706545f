// Names that somebody may have meant.

/// The name among `names` that differs least from `name`, if it differs little enough to be a slip: in case alone, or
/// in at most a third of its characters.
func nearName(_ name: String, among names: [String]) -> String? {
  let wanted = Array(name.lowercased().unicodeScalars.prefix(100))
  let scored = names.map { ($0, editDistance(wanted, Array($0.lowercased().unicodeScalars.prefix(100)))) }
  guard let best = scored.min(by: { $0.1 < $1.1 }), best.1 <= max(1, wanted.count / 3) else { return nil }
  return best.0
}

/// Insertions, deletions and replacements that make one text of the other.
private func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var row = Array(0...b.count)
  for (i, left) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, right) in b.enumerated() {
      let replaced = diagonal + (left == right ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
    }
  }
  return row[b.count]
}
