# A loss after training by each method: the mean of the seeds, and a line from best to worst.  `what` names it.
set terminal svg size 760,480 font 'Helvetica,13' background rgb 'white'
set output sprintf('%s/%s.svg', out, scene)
set border 3 lc rgb '#adb5bd'
set tics nomirror out textcolor rgb '#495057'
set grid xtics lc rgb '#e9ecef' lt 1
if (!exists('what')) what = sprintf('loss on unseen rows of the target (%s)', scene)
set xlabel what textcolor rgb '#495057'
set yrange [-0.7:*]
set offsets 0, 0, 0.7, 0
file = sprintf('%s/%s.means', out, scene)
plot file using 3:0:($4-$3):(0) with vectors nohead lw 3 lc rgb '#ced4da' notitle, \
     file using 2:0:ytic(1) with points pt 7 ps 0.9 lc rgb '#0b6e4f' notitle
