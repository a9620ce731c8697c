# The loss on the target during training on each selection: the mean over seeds, and a band from best to worst.
set style line 1 lc rgb '#0b6e4f' lw 2.5
set style line 2 lc rgb '#c1666b' lw 2.5
set style line 3 lc rgb '#6c757d' lw 2.5
set style fill transparent solid 0.15 noborder
set border 3 lc rgb '#adb5bd'
set tics nomirror out textcolor rgb '#495057'
set grid ytics lc rgb '#e9ecef' lt 1
set xlabel 'training step' textcolor rgb '#495057'
set ylabel 'loss on unseen rows of the target skill' textcolor rgb '#495057'
set key top right Left reverse samplen 2 textcolor rgb '#343a40'
set logscale y
set format y '%g'
set arrow 1 from warmup, graph 0 to warmup, graph 1 nohead lc rgb '#ced4da' dt 2
set label 1 'selection' at warmup, graph 0.04 offset 0.8, 0 textcolor rgb '#868e96'
file(arm) = sprintf('%s/%s.curve', out, arm)
do for [ext in 'svg png'] {
	if (ext eq 'svg') { set terminal svg size 760,440 font 'Helvetica,13' background rgb 'white' }
	else { set terminal pngcairo size 1140,660 font 'Helvetica,13' }
	set output sprintf('%s/curves.%s', out, ext)
	plot file('full') using 1:3:4 with filledcurves ls 3 notitle, \
	     file('random') using 1:3:4 with filledcurves ls 2 notitle, \
	     file('less') using 1:3:4 with filledcurves ls 1 notitle, \
	     file('full') using 1:2 with lines ls 3 title 'full pool', \
	     file('random') using 1:2 with lines ls 2 title '300 random rows', \
	     file('less') using 1:2 with lines ls 1 title '300 rows chosen by LESS'
}
