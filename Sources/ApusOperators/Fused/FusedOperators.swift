// The list of the engine's own operators: one line an operator.

import ApusGraph

let fusedOperators: [any OperatorDefinition] = [
  engine(FusedAttention()),
  engine(FusedGemm()),
  engine(ByteMap()),
  engine(IntegerGemm()),
  engine(NBitsGemm()),
  engine(QLinearGemm()),
  engine(QLinearBinary(.add)),
  engine(QLinearBinary(.multiply)),
  engine(QLinearReduceMean()),
  engine(ChannelsLastConv()),
  engine(ConvTranspose(channelsLast: true)),
  engine(QLinearConv(channelsLast: true)),
  engine(ChannelsLastBatchNormalization()),
  engine(ChannelsLastPool(.maximum)),
  engine(ChannelsLastPool(.mean)),
  engine(ChannelsLastGlobalAveragePool()),
]

/// An operator of the engine is one that can be written as others: it does not compile without.
private func engine(_ definition: some EngineOperator) -> any OperatorDefinition { definition }
