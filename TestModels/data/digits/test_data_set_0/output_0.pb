
BprobabilitiesJ(¾}2[kä7»~?ç¡;®GÃ2Ëw>6f">0½›3èWF2½ý¾6