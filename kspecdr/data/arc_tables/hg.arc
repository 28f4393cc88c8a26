# Mercury: air wavelength (Angstrom), relative intensity, label
# Wavelengths: observed lines of the NIST Atomic Spectra Database (Kramida, Ralchenko, Reader and NIST ASD Team,
# https://physics.nist.gov/asd, Hg I), put from vacuum into standard air by Ciddor 1996 (Applied Optics 35, 1566).
# Intensities: as seen on the K-SPEC IsoPlane (hbahk/kspecdr line lists, MIT licence) for its unblended lines; for the
# others the intensity of the database, scaled by wavelength block to the median ratio of the lines that both have.
# 5770, blended there with neon, follows 5791.
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
  7081.9013      3.114  label=Hg
  7091.8596      2.491  label=Hg
 10139.7505      4.982  label=Hg
 11287.1092      3.114  label=Hg
 13209.9470      1.245  label=Hg
 13426.5682      1.245  label=Hg
 13673.5111     0.9341  label=Hg
