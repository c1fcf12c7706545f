// The list of the Fused family: one line an operator.

import ApusGraph

let fusedOperators: [any OperatorDefinition] = [
  FusedAttention(),
  FusedGemm(),
  ChannelsLastConv(),
  ConvTranspose(channelsLast: true),
  QLinearConv(channelsLast: true),
  ChannelsLastPool(.maximum),
  ChannelsLastPool(.mean),
  ChannelsLastGlobalAveragePool(),
]
