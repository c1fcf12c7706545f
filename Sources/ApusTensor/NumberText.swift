// Numbers from text of others.

extension LosslessStringConvertible where Self: BinaryFloatingPoint {
  /// The number that the whole text is. The initialiser of the standard library reads to the first NUL, and says
  /// nothing of what follows.
  package init?(wholeText text: String) {
    if text.utf8.contains(0) { return nil }
    self.init(text)
  }
}
