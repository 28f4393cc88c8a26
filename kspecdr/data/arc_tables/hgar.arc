# Mercury with argon (pen lamp): air wavelength (Angstrom), relative intensity, label
# Wavelengths: observed lines of the NIST Atomic Spectra Database (Kramida, Ralchenko, Reader and NIST ASD Team,
# https://physics.nist.gov/asd, Hg I and Ar I), put from vacuum into standard air by Ciddor 1996 (Applied Optics 35, 1566).
# Intensities: as seen on the K-SPEC IsoPlane (hbahk/kspecdr line lists, MIT licence) for its unblended lines; for the
# others the intensity of the database, scaled by wavelength block to the median ratio of the lines that both have.
# 5770, blended there with neon, follows 5791.
# Argon, the filling gas, is put at 0.05 of mercury, the order seen on that instrument.
# The strongest line has intensity 1000; other lamps have scales of their own.
  2534.7722      4.152  label=Hg
  2536.5209      24.91  label=Hg
  2652.0385      3.321  label=Hg
  2653.6901      12.45  label=Hg
  2655.1337     0.8303  label=Hg
  2752.7772     0.8303  label=Hg
  2893.6009      1.661  label=Hg
  2967.2830      6.227  label=Hg
  3021.5040      2.491  label=Hg
  3125.6740      8.303  label=Hg
  3131.5550      6.227  label=Hg
  3131.8440      8.303  label=Hg
  3341.4840      1.453  label=Hg
  3650.1579      18.68  label=Hg
  3654.8420      6.227  label=Hg
  3662.8869      1.038  label=Hg
  3663.2839      4.152  label=Hg
  4046.5649      16.78  label=Hg
  4077.8369      2.008  label=Hg
  4158.5895     0.5714  label=Ar
  4198.3170     0.2857  label=Ar
  4200.6744     0.5714  label=Ar
  4259.3620     0.2857  label=Ar
  4339.2231      1.038  label=Hg
  4347.4944      3.114  label=Hg
  4358.3350      423.8  label=Hg
  4916.0674      1.216  label=Hg
  4960.0958      2.076  label=Hg
  5120.6371      1.453  label=Hg
  5354.0339      2.699  label=Hg
  5384.6257      1.038  label=Hg
  5460.7499       1000  label=Hg
  5549.6337      1.038  label=Hg
  5675.8049      12.45  label=Hg
  5769.6099      147.2  label=Hg
  5790.6699      163.5  label=Hg
  5803.7817      8.303  label=Hg
  5859.2538      2.699  label=Hg
  6716.3357      1.868  label=Hg
  6907.4643      2.187  label=Hg
  6965.4307      12.76  label=Ar
  7067.2183      14.29  label=Ar
  7081.9013      3.114  label=Hg
  7091.8596      2.491  label=Hg
  7147.0418      1.429  label=Ar
  7272.9358      2.857  label=Ar
  7372.1181     0.2857  label=Ar
  7383.9799      14.29  label=Ar
  7503.8686      28.57  label=Ar
  7514.6517      21.43  label=Ar
  7635.1062      35.71  label=Ar
  7723.7612      21.43  label=Ar
  7724.2071      14.29  label=Ar
  7948.1756      28.57  label=Ar
  8006.1570      28.57  label=Ar
  8014.7856      35.71  label=Ar
  8103.6926      28.57  label=Ar
  8115.3105         50  label=Ar
  8264.5222      14.29  label=Ar
  8408.2103      21.43  label=Ar
  8424.6479      28.57  label=Ar
  8521.4417      21.43  label=Ar
  8667.9441      6.429  label=Ar
  8849.9098     0.2571  label=Ar
  9122.9669         50  label=Ar
  9194.6375     0.7857  label=Ar
  9224.4984      21.43  label=Ar
  9291.5313     0.5714  label=Ar
  9354.2203      2.286  label=Ar
  9657.7861      35.71  label=Ar
  9784.5027      6.429  label=Ar
 10052.0642     0.2571  label=Ar
 10139.7505      4.982  label=Hg
 10470.0539      2.286  label=Ar
 10506.5010     0.2571  label=Ar
 10673.5647     0.2857  label=Ar
 11287.1092      3.114  label=Hg
 11488.1087     0.5714  label=Ar
 11668.7097     0.2857  label=Ar
