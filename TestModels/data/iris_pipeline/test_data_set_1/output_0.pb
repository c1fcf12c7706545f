2	virginica2
versicolor2setosa2	virginica2setosaBoutput_label