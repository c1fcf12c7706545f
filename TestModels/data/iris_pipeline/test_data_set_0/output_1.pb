2C"setosa"
versicolor"	virginica* J•ð%9JMÁ=JŒ©w?